"""Backend parameter `executor_retries`: a failed executor brings a new attempt, as often as the task asks for."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tesk.client import ClientError
from tests.behaviour.sites import Site, sentences

Json = dict[str, Any]


def trying(site: Site, script: str, retries: str = "2", **more: Any) -> Json:
    """A task of the shell `script`, which finds in $tries how often it was begun, this time included.

    The count goes from attempt to attempt by a file of the site: an input, and an output also where the script fails.
    """
    count = site.files / "count"
    count.touch()
    return site.shell(
        f"cat /data/before >/data/count; echo tried >>/data/count; tries=$(wc -l </data/count); {script}",
        inputs=[{"url": str(count), "path": "/data/before"}],
        outputs=[{"url": str(count), "path": "/data/count"}],
        resources={"backend_parameters": {"executor_retries": retries}},
        **more,
    )


def test_what_fails_and_then_succeeds_is_complete_with_an_entry_for_each_attempt(site: Site) -> None:
    task = site.run(trying(site, "echo try $tries; [ $tries -eq 3 ]"))
    assert task["state"] == "COMPLETE", sentences(task)
    assert [one["logs"][0]["exit_code"] for one in task["logs"]] == [1, 1, 0]
    assert [one["logs"][0]["stdout"] for one in task["logs"]] == ["try 1\n", "try 2\n", "try 3\n"]
    assert task["logs"][0]["system_logs"][-2:] == [
        "executor 0 ended with exit code 1",
        "attempt 1 failed; a new attempt was started",
    ]
    assert all(one["end_time"] <= two["start_time"] for one, two in zip(task["logs"], task["logs"][1:], strict=False))
    assert (site.files / "count").read_text() == "tried\n" * 3, "each attempt delivers its outputs over the last one's"


def test_what_always_fails_ends_when_its_retries_are_used_up(site: Site) -> None:
    task = site.run(trying(site, "exit 7", retries="1"))
    assert task["state"] == "EXECUTOR_ERROR"
    assert [one["logs"][0]["exit_code"] for one in task["logs"]] == [7, 7]
    assert "attempt 2 failed; it was the last of 2 attempts" in sentences(task)
    assert (site.files / "count").read_text() == "tried\n" * 2


def test_all_executors_run_again_in_a_scratch_of_its_own(site: Site) -> None:
    task = trying(site, "ls /scratch; touch /scratch/left", retries="1", volumes=["/scratch"])
    last = site.shell("[ $(wc -l </data/count) -eq 2 ]")["executors"]
    ended = site.run({**task, "executors": [*task["executors"], *last]})
    assert ended["state"] == "COMPLETE", sentences(ended)
    assert [[one["exit_code"] for one in log["logs"]] for log in ended["logs"]] == [[0, 1], [0, 0]]
    assert ended["logs"][1]["logs"][0]["stdout"] == "", "nothing of the first attempt is left"


def test_an_error_that_is_ignored_is_not_tried_again(site: Site) -> None:
    task = site.run(trying(site, "exit 7", ignore_error=True))
    assert task["state"] == "COMPLETE"
    assert len(task["logs"]) == 1


def test_a_cancel_ends_all_tries(site: Site) -> None:
    task_id = site.create(trying(site, "[ $tries -eq 2 ] && exec sleep 98216; exit 1", retries="10"))
    end = time.monotonic() + 60 * site.place.patience
    while not ((task := site.get(task_id))["state"] == "RUNNING" and len(task["logs"]) == 2):
        assert time.monotonic() < end, task
        time.sleep(0.02)
    with site.client as client:
        client.cancel(task_id)
    task = site.wait(task_id)
    assert task["state"] == "CANCELED"
    assert len(task["logs"]) == 2
    assert site.left() == []


@pytest.mark.parametrize("value", ["11", "-1", "often", ""])
def test_a_number_of_retries_that_is_none_is_refused_in_a_sentence(site: Site, value: str) -> None:
    with pytest.raises(
        ClientError, match=rf"'{value}' is not a value of executor_retries; give a whole number from 0 to 10"
    ):
        site.create(trying(site, "true", retries=value))
