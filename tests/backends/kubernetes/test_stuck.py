"""Which pods may be taken out of the API although their kubelet has not let go of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from lightkube.resources.core_v1 import Pod

from tesk.backends.kubernetes.stuck import is_stuck

DUE = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
LATE, EARLY = DUE + timedelta(seconds=2), DUE - timedelta(seconds=5)
PULLING: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-01-01T11:00:00Z"}}
ENDED: dict[str, Any] = {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T11:00:00Z"}}


def a_pod(main: dict[str, Any] | None, *, init: dict[str, Any] | None = None, deleted: bool = True, **more: Any) -> Pod:
    """A pod whose main container, and init container, are in these states."""

    def statuses(state: dict[str, Any] | None, **fields: Any) -> list[dict[str, Any]]:
        about = {"name": "one", "image": "", "imageID": "", "ready": False, "restartCount": 0}
        return [] if state is None else [{**about, "state": state, **fields}]

    metadata: dict[str, Any] = {"name": "pod"}
    if deleted:
        metadata |= {"deletionTimestamp": "2026-01-01T12:00:00Z", "deletionGracePeriodSeconds": 10}
    status = {"containerStatuses": statuses(main, **more), "initContainerStatuses": statuses(init)}
    return Pod.from_dict({"metadata": metadata, "status": status})


@pytest.mark.parametrize("init", [None, ENDED, PULLING])
def test_a_pod_that_pulls_an_image_long_after_its_end_was_asked_for_is_stuck(init: dict[str, Any] | None) -> None:
    assert is_stuck(a_pod(PULLING, init=init), LATE)
    assert is_stuck(a_pod(None), LATE)


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(RUNNING),
        a_pod(ENDED),
        a_pod(PULLING, init=RUNNING),
        a_pod(PULLING, lastState=ENDED),
        a_pod(PULLING, restartCount=1),
    ],
)
def test_a_pod_of_which_something_ran_is_never_stuck(pod: Pod) -> None:
    assert not is_stuck(pod, LATE)


def test_a_pod_has_its_grace_and_one_that_nobody_deleted_has_no_end() -> None:
    assert not is_stuck(a_pod(PULLING), EARLY)
    assert not is_stuck(a_pod(PULLING, deleted=False), LATE)
