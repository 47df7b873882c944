"""Events by the attempt that they are about, and the attempt by the name of an object."""

from __future__ import annotations

import pytest
from lightkube.models.core_v1 import Event, EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes.events import Events
from tesk.backends.kubernetes.names import (
    Owner,
    attempt_name,
    claim_name,
    executor_name,
    filer_name,
    key_in,
    plan_names,
    report_name,
)

FIRST, SECOND, TENTH = (AttemptKey("task-0123456789abc", number) for number in (1, 2, 10))


@pytest.mark.parametrize("key", [FIRST, SECOND, TENTH])
def test_every_object_of_an_attempt_names_it(key: AttemptKey) -> None:
    names = [
        attempt_name(key),
        *plan_names(key, 3),
        report_name(key),
        claim_name(key),
        filer_name(key, "in"),
        filer_name(key, "out"),
        executor_name(key, 12),
        Owner(key, "uid").name,
        f"{executor_name(key, 0)}-x2b5k",
        f"{attempt_name(key)}-scratch",
    ]
    assert {key_in(name) for name in names} == {key}


@pytest.mark.parametrize("name", ["", "coredns", "-", "node"])
def test_other_names_are_of_no_attempt(name: str) -> None:
    assert key_in(name) is None


def event(name: str, about: str, reason: str = "FailedScheduling") -> Event:
    return Event(
        metadata=ObjectMeta(name=name),
        involvedObject=ObjectReference(kind="Pod", name=about),
        reason=reason,
        source=EventSource(),
    )


def test_events_are_found_by_their_attempt_as_long_as_there_are_any() -> None:
    events = Events()
    assert events.note("added", event("a", attempt_name(FIRST))) == FIRST
    assert events.note("added", event("b", claim_name(FIRST))) == FIRST
    assert events.note("added", event("c", attempt_name(SECOND))) == SECOND
    assert events.note("added", event("d", "coredns")) is None
    assert events.note("modified", event("a", attempt_name(FIRST), "Preempted")) == FIRST
    assert [(one.metadata.name, one.reason) for one in events.of(FIRST)] == [
        ("a", "Preempted"),
        ("b", "FailedScheduling"),
    ]
    for name in "ab":
        events.note("deleted", event(name, attempt_name(FIRST)))
    assert events.of(FIRST) == []
    assert len(events.of(SECOND)) == 1
