"""What each view shows of a task (TES 1.1.0, `view`)."""

from __future__ import annotations

import copy
from typing import Any

from tesk.tes.views import View, log_in_view, task_in_view

LOG: dict[str, Any] = {
    "logs": [{"exit_code": 0, "stdout": "text", "stderr": "text", "start_time": "x"}],
    "outputs": [],
    "metadata": {"a": "b"},
    "system_logs": ["text"],
}
TASK: dict[str, Any] = {
    "id": "t",
    "state": "COMPLETE",
    "name": "n",
    "inputs": [{"path": "/a", "content": "text"}, {"path": "/b", "url": "s3://b/b"}],
    "executors": [{"image": "i", "command": ["c"], "stdout": "/path", "stderr": "/path", "stdin": "/path"}],
    "logs": [LOG, LOG],
}


def test_minimal_is_id_and_state() -> None:
    assert task_in_view(TASK, View.MINIMAL) == {"id": "t", "state": "COMPLETE"}


def test_basic_leaves_out_what_may_be_large_and_keeps_paths() -> None:
    log = {"logs": [{"exit_code": 0, "start_time": "x"}], "outputs": [], "metadata": {"a": "b"}}
    assert task_in_view(TASK, View.BASIC) == {
        **TASK,
        "inputs": [{"path": "/a"}, {"path": "/b", "url": "s3://b/b"}],
        "logs": [log, log],
    }
    assert log_in_view(LOG, View.BASIC) == log


def test_full_is_everything() -> None:
    assert task_in_view(TASK, View.FULL) == TASK
    assert log_in_view(LOG, View.FULL) == LOG


def test_a_view_adds_nothing_and_changes_nothing_of_what_it_shows() -> None:
    sparse = {"id": "t", "executors": []}
    before = copy.deepcopy(TASK)
    for view in View:
        task_in_view(TASK, view)
        assert task_in_view(sparse, view).keys() <= sparse.keys()
    assert before == TASK
