"""What can be done with tasks: create, read, list, cancel. The routes stand on this."""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from tesk.plan.make import CannotPlan, make_plan, supported_parameters
from tesk.plan.model import Plan
from tesk.plan.site import Site
from tesk.server.problems import Problem, refused, unreadable
from tesk.store import CreationKey, KeyTaken, NewTask, Page, Query, Store, encode_task
from tesk.tes.models import TesTask, take_unknown
from tesk.tes.states import State
from tesk.tes.views import View

__all__ = ["TaskIds", "Tasks", "now"]

MOST_FIELDS = 1000
"""Of each: tags, which are indexed; and of what becomes a sentence in system_logs."""

_ID_BYTES = 9
_LETTERS = string.ascii_lowercase + string.digits


class TaskIds:
    """Makes ids when called: `task-` and 13 of a-z0-9 (67 random bits); also legal names on Kubernetes.

    Random bytes are fetched for many ids at once: at each system call other threads take the interpreter.
    """

    def __init__(self) -> None:
        self._bytes = b""

    def __call__(self) -> str:
        if not self._bytes:
            self._bytes = secrets.token_bytes(256 * _ID_BYTES)
        number = int.from_bytes(self._bytes[:_ID_BYTES])  # of 72 bits, 67 are used
        self._bytes = self._bytes[_ID_BYTES:]
        letters = []
        for _ in range(13):
            number, letter = divmod(number, len(_LETTERS))
            letters.append(_LETTERS[letter])
        return "task-" + "".join(letters)


def now() -> str:
    """The time in UTC as RFC 3339, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Tasks:
    """The tasks of one site.

    `site` is what plans are made for. `new_id` and `clock` give ids and creation times.
    """

    def __init__(
        self,
        store: Store,
        site: Site,
        *,
        new_id: Callable[[], str] | None = None,
        clock: Callable[[], str] = now,
    ) -> None:
        self.store = store
        self.site = site
        self._new_id = new_id or TaskIds()
        self._clock = clock

    async def create(self, body: bytes, key: str | None = None) -> str:
        """Keep the TES task in `body` as QUEUED and give its id; once this returns, the task is durable.

        For a `key` that was given in the last 24 hours, gives the id of the task that was created with it.
        Raises Problem: 400, every fault at once, when `body` is no task or the task cannot be planned; 422 when `key`
        came with another body.
        """
        new = self.prepare(body)
        try:
            return await self.store.create(new, None if key is None else _creation_key(key, body))
        except KeyTaken:
            raise Problem(
                422, "This Idempotency-Key was sent with another task before; give each task a key of its own."
            ) from None

    def prepare(self, body: bytes) -> NewTask:
        """What `create` keeps for `body`; raises Problem as `create` does."""
        try:
            task = TesTask.model_validate_json(body)
        except ValidationError as error:
            raise unreadable(error, body) from None
        unknown = tuple(take_unknown(task))
        _check_sizes(task, unknown)
        try:
            plan = make_plan(task, self.site, unknown)
        except CannotPlan as error:
            raise refused(error) from None
        if task.resources and task.resources.backend_parameters is not None:
            task.resources.backend_parameters = supported_parameters(task, self.site)
        return encode_task(task, id=self._new_id(), creation_time=self._clock(), plan=plan)

    async def get(self, task_id: str, view: View) -> bytes | None:
        """The task as encoded JSON, None when there is none."""
        return await self.store.get(task_id, view)

    async def page(self, query: Query) -> Page:
        """One page of the list, newest first."""
        return await self.store.page(query)

    async def cancel(self, task_id: str) -> State | None:
        """Begin to cancel; the state after that (a terminal one stays), None when there is no such task."""
        return await self.store.cancel(task_id)

    async def executors(self, task_id: str) -> int | None:
        """How many executors the task has, None when there is no such task."""
        plan = await self.store.plan(task_id)
        return None if plan is None else len(Plan.from_json(plan).executors)


def _creation_key(key: str, body: bytes) -> CreationKey:
    return CreationKey(hashlib.sha256(key.encode()).hexdigest(), hashlib.sha256(body).digest())


def _check_sizes(task: TesTask, unknown: Sequence[str]) -> None:
    parameters = task.resources.backend_parameters if task.resources else None
    faults = [
        (path, f"has {number} {what}; at most {MOST_FIELDS} are taken")
        for path, what, number in (
            ("$.tags", "tags", len(task.tags or ())),
            ("$.resources.backend_parameters", "parameters", len(parameters or ())),
            ("$", "fields that are not part of TES 1.1.0", len(unknown)),
        )
        if number > MOST_FIELDS
    ]
    if faults:
        raise Problem(400, "This task is too large: see errors.", faults)
