"""The words between the store and the floors above it: what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tesk.tes.states import State
from tesk.tes.views import View

__all__ = ["ActiveTask", "Change", "CreationKey", "Event", "NewTask", "Page", "Query", "QueuedTask", "TaskLogBytes"]


@dataclass(frozen=True, slots=True)
class CreationKey:
    """What a client calls one creation, so that it may ask for it again; `fingerprint` is of the request's body."""

    name: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be kept, in state QUEUED.

    `id` consists of letters, digits and `._-`. `basic` and `full` are the task's JSON object in those views, without
    `id`, `state` and `logs`; `full` is None where it equals `basic`. `plan` is the plan as JSON. `notes` go to the
    first attempt's system_logs at once.
    """

    id: str
    name: str | None
    creation_time: str
    basic: bytes
    full: bytes | None
    plan: bytes
    tags: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskLogBytes:
    """One attempt as tesTaskLog JSON objects; `full` is None where it equals `basic`."""

    basic: bytes
    full: bytes | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a report asks of the store: the state of one attempt, its log, or both.

    `directories` are paths of outputs whose `type` is DIRECTORY from now on (TES 1.1.0 `tesFileType`: filled in once it
    is known).
    """

    id: str
    attempt: int
    state: State | None = None
    log: TaskLogBytes | None = None
    directories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """A task was created, canceled or sent into a new attempt, and this is committed."""

    id: str
    state: State


@dataclass(frozen=True, slots=True)
class ActiveTask:
    """A task that a backend holds, or should."""

    id: str
    state: State
    attempt: int


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """A task that waits for a backend; `seq` is its place in the order of creation, `plan` JSON."""

    seq: int
    id: str
    attempt: int
    plan: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """Which tasks a list shows (TES 1.1.0 ListTasks), newest first.

    `before` is the `next` of the page before. `tags` are pairs that must all match; an empty value matches any value.
    """

    view: View = View.MINIMAL
    page_size: int = 256
    before: int | None = None
    name_prefix: str | None = None
    state: State | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """`tasks` is a JSON array, encoded; `next` goes into the next query's `before`, None at the end."""

    tasks: bytes
    next: int | None
