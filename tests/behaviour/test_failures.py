"""What is missing or refused: the right state, and one sentence that names what and where."""

from __future__ import annotations

import os

import pytest

from tesk.client import ClientError
from tests.behaviour.sites import Site, sentences


def test_a_missing_input_is_named(site: Site) -> None:
    url = f"file://{site.files}/none.fq"
    task = site.run(site.task("true", inputs=[{"name": "reads", "url": url, "path": "/data/reads.fq"}]))
    assert task["state"] == "SYSTEM_ERROR"
    assert task["logs"][0]["logs"] == []
    said = sentences(task)
    assert "reads" in said
    assert "/data/reads.fq" in said
    assert f"{site.files}/none.fq does not exist" in said


def test_every_missing_input_is_named_at_once(site: Site) -> None:
    inputs = [{"url": f"{site.files}/{name}", "path": f"/data/{name}"} for name in ("one", "two")]
    said = sentences(site.run(site.task("true", inputs=inputs)))
    assert f"{site.files}/one" in said
    assert f"{site.files}/two" in said


def test_a_missing_output_fails_a_good_task_and_the_others_are_delivered(site: Site) -> None:
    task = site.run(
        site.shell(
            "echo x >/data/there",
            outputs=[
                {"url": f"{site.files}/none", "path": "/data/none", "name": "counts"},
                {"url": f"{site.files}/there", "path": "/data/there"},
            ],
        )
    )
    assert task["state"] == "SYSTEM_ERROR"
    assert "counts" in sentences(task)
    assert "/data/none" in sentences(task)
    assert (site.files / "there").read_text() == "x\n"
    assert task["logs"][0]["logs"][0]["exit_code"] == 0


def test_a_task_may_say_that_missing_outputs_are_no_failure(site: Site) -> None:
    task = site.run(
        site.task(
            "true",
            outputs=[{"url": f"{site.files}/none", "path": "/data/none"}],
            resources={"backend_parameters": {"Missing_Outputs": "warn"}},
        )
    )
    assert task["state"] == "COMPLETE"
    assert "/data/none" in sentences(task)


def test_a_pattern_that_matches_nothing_is_a_missing_output(site: Site) -> None:
    task = site.run(
        site.task("true", outputs=[{"url": f"{site.files}/x", "path": "/data/*.none", "path_prefix": "/data"}])
    )
    assert task["state"] == "SYSTEM_ERROR"
    assert "/data/*.none" in sentences(task)


def test_a_failed_executor_is_not_hidden_by_missing_outputs(site: Site) -> None:
    task = site.run(site.shell("exit 2", outputs=[{"url": f"{site.files}/none", "path": "/data/none"}]))
    assert task["state"] == "EXECUTOR_ERROR"


def test_an_output_that_cannot_be_written_is_named(site: Site) -> None:
    (site.files / "a-file").write_text("in the way")
    url = f"file://{site.files}/a-file/out"
    task = site.run(site.shell("echo x >/data/out", outputs=[{"url": url, "path": "/data/out"}]))
    assert task["state"] == "SYSTEM_ERROR"
    assert ("a-file" if site.place.shares else url) in sentences(task)
    assert (site.files / "a-file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "/etc/passwd"),
        ("{files}/../outside", "outside"),
        ("{files}-beside/x", "beside"),
        ("gopher://host/x", "gopher"),
    ],
)
def test_a_url_that_the_site_does_not_allow_is_refused_before_anything_runs(site: Site, url: str, why: str) -> None:
    url = url.format(files=site.files)
    for part in ("inputs", "outputs"):
        with pytest.raises(ClientError, match=why):
            site.create(site.task("true", **{part: [{"url": url, "path": "/data/x"}]}))


def test_a_task_larger_than_the_machine_is_refused_with_the_numbers(site: Site) -> None:
    if not site.place.admits:
        pytest.skip(
            "this backend does not know how large the machines are; tests/kube tells what becomes of such a task"
        )
    with pytest.raises(ClientError, match=r"(?s)4096.*8"):
        site.create(site.task("true", resources={"cpu_cores": 4096}))


def test_a_links_target_outside_the_roots_is_no_input(site: Site) -> None:
    (site.files / "link").symlink_to("/etc/passwd")
    task = site.run(site.shell("cat /data/x", inputs=[{"url": f"{site.files}/link", "path": "/data/x"}]))
    assert task["state"] == "SYSTEM_ERROR"
    assert "link" in sentences(task)
    os.unlink(site.files / "link")
