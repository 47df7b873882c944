"""What each call of a TES client asks and how it reads the answer, free of I/O.

An operation is a generator: it yields a `Request` and is sent the `Answer`, or yields a `Pause` and is sent
None once the time has passed. `Client` and `AsyncClient` drive the same operations and differ in nothing
else.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote

from tesk.client.errors import ClientError, ServerUnreachableError, WaitTimeoutError, error_from
from tesk.client.types import ServiceInfo, Task, View
from tesk.tes.states import TERMINAL

__all__ = [
    "AT_ONCE",
    "PASSING",
    "Answer",
    "Changed",
    "Done",
    "Operation",
    "Page",
    "Pause",
    "Request",
    "cancel",
    "create",
    "find_prefix",
    "get",
    "logs_request",
    "page",
    "service_info",
    "wait",
]

T = TypeVar("T")

PREFIXES = ("/ga4gh/tes/v1", "/v1", "")
PASSING = (429, 502, 503, 504)
"""Answers that a server, or the proxy before it, gives for the moment."""

_PAGE = 2000  # tasks asked for at once while many are waited for; TES allows up to 2047
_FEW = 32  # up to so many tasks are asked for one by one
_IDLE = 9  # a tenth of the time for asking, the rest for pauses
_ONE_BY_ONE = 200  # requests in one round for tasks that no page showed


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `path` is percent-encoded, and relative to the API's prefix unless `absolute`.

    `repeatable` says that sending it twice does what sending it once does.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    absolute: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `url` is for messages.

    `retry_after` is how many seconds to wait, if the server said so; `keyed` that it honours `Idempotency-Key`.
    """

    status: int
    body: bytes
    url: str
    location: str | None = None
    retry_after: float | None = None
    keyed: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to ask for so many seconds."""

    seconds: float


class Page(NamedTuple):
    """One page of the list; no token means that it is the last."""

    tasks: list[Task]
    next_page_token: str | None


Operation = Generator[Request | Pause, Any, T]
Changed = Callable[[str, str], None]
"""Called by `wait` with a task's id and its state: first the state found, then each change seen."""

AT_ONCE = 16
Done = Callable[[int, "str | ClientError"], None]
"""Called by `create_all` with a task's number, from 0, and its id or why it has none."""


def _body(answer: Answer) -> dict[str, Any]:
    """The JSON object of a successful answer.

    Raises ClientError with the server's sentences for any other answer.
    """
    if 300 <= answer.status < 400:
        raise ClientError(
            f"{answer.url} redirects to {answer.location}: give that server's address instead.",
            status=answer.status,
        )
    if not 200 <= answer.status < 300:
        raise error_from(answer.status, answer.body, answer.url, answer.retry_after)
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ClientError(
            f"{answer.url} did not answer with a JSON object: is this the address of a TES server?",
            status=answer.status,
        )
    return found


def _task_path(task_id: str, suffix: str = "") -> str:
    if not task_id:
        raise ClientError("a task's id is empty")
    return f"/tasks/{quote(task_id, safe='')}{suffix}"


def find_prefix(base: str) -> Operation[str]:
    """Where below the path `base` the API lives: asks for service-info at each known prefix.

    TES 1.0 has it at `/tasks/service-info`. An answer that only asks for credentials counts. Raises
    ClientError when there is no TES API.
    """
    named = any(prefix and base.endswith(prefix) for prefix in PREFIXES)
    prefixes = PREFIXES[::-1] if named else PREFIXES
    for candidate in ("/service-info", "/tasks/service-info"):
        for prefix in prefixes:
            answer = cast(Answer, (yield Request("GET", f"{base}{prefix}{candidate}", absolute=True)))
            if answer.status in (401, 403):
                return f"{base}{prefix}"
            if answer.status >= 500 or answer.status == 429:
                raise error_from(answer.status, answer.body, answer.url, answer.retry_after)
            if answer.status == 200 and _is_object(answer.body):
                return f"{base}{prefix}"
    tried = ", ".join(f"{base}{prefix}/service-info" for prefix in prefixes)
    raise ClientError(f"there is no TES server at this address (asked for {tried}).")


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


def service_info() -> Operation[ServiceInfo]:
    """GET /service-info."""
    return cast(ServiceInfo, _body((yield Request("GET", "/service-info"))))


def create(task: Mapping[str, Any], key: str | None = None) -> Operation[str]:
    """POST /tasks; the new task's id.

    `key` (a random one when None) is sent as `Idempotency-Key`: a server that honours it makes one task of however
    many requests bear the same key.
    """
    body = json.dumps(task, ensure_ascii=False).encode("utf-8", "surrogatepass")
    headers = {"Content-Type": "application/json", "Idempotency-Key": key or str(uuid.uuid4())}
    answer = cast(Answer, (yield Request("POST", "/tasks", body=body, headers=headers, repeatable=False)))
    found = _body(answer).get("id")
    if not isinstance(found, str) or not found:
        raise ClientError(f"{answer.url} took the task but answered with no id.", status=answer.status)
    return found


def get(task_id: str, view: View) -> Operation[Task]:
    """GET /tasks/{id}."""
    return cast(Task, _body((yield Request("GET", _task_path(task_id), query=(("view", view),)))))


def cancel(task_id: str) -> Operation[None]:
    """POST /tasks/{id}:cancel."""
    answer = cast(Answer, (yield Request("POST", _task_path(task_id, ":cancel"))))
    if not 200 <= answer.status < 300:
        _body(answer)


def why(task_id: str) -> Operation[str | None]:
    """GET /tasks/{id}/why: TESK's extension, None from a server that has it not."""
    answer = cast(Answer, (yield Request("GET", _task_path(task_id, "/why"))))
    found = _body(answer).get("why") if answer.status == 200 else None
    return found if isinstance(found, str) else None


def page(
    *,
    name_prefix: str | None = None,
    state: str | None = None,
    tags: Mapping[str, str] | None = None,
    view: View = "MINIMAL",
    page_size: int | None = None,
    page_token: str | None = None,
) -> Operation[Page]:
    """GET /tasks: one page. An empty tag value matches any value (TES 1.1.0 `tag_value`)."""
    query = [("view", str(view))]
    for name, value in (("name_prefix", name_prefix), ("state", state), ("page_token", page_token)):
        if value is not None:
            query.append((name, value))
    if page_size is not None:
        query.append(("page_size", str(page_size)))
    for key, value in (tags or {}).items():
        query += [("tag_key", key), ("tag_value", value)]
    found = _body((yield Request("GET", "/tasks", query=tuple(query))))
    return Page(found.get("tasks") or [], found.get("next_page_token") or None)


def logs_request(task_id: str, executor: int, stream: str, *, follow: bool) -> Request:
    """GET /tasks/{id}/logs: TESK's extension, the bytes that an executor has written."""
    query = [("executor", str(executor)), ("stream", stream)]
    if follow:
        query.append(("follow", "true"))
    return Request("GET", _task_path(task_id, "/logs"), query=tuple(query))


def wait(
    ids: Iterable[str],
    *,
    timeout: float | None,
    poll: float,
    patience: float,
    changed: Changed | None,
    reached: bool,
    tags: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Operation[dict[str, str]]:
    """Ask until every task has ended; the last state of each, in the order given.

    Pauses grow from 50 ms to `poll` seconds while nothing changes, and are at least some times as long as the server
    took to answer, so that waiting for thousands is no load. A server that has answered once (`reached`:
    before this call) and does not now is asked again for `patience` seconds, since it may be restarting. `tags`
    that all the tasks bear make the pages of the list that are read shorter.
    Raises WaitTimeoutError after `timeout` seconds, ClientError for an id that the server does not know.
    """
    states: dict[str, str] = dict.fromkeys(ids, "")
    began = clock()
    answered = began if reached else -math.inf
    pause = 0.05
    unseen: deque[str] = deque()
    while pending := [one for one, state in states.items() if state not in TERMINAL]:
        moved, asked_to_wait, asked = False, 0.0, clock()
        try:
            found = yield from _states_of(pending, unseen, tags)
            answered = clock()
        except ClientError as error:
            passing = isinstance(error, ServerUnreachableError) or error.status in PASSING
            if not passing or clock() - answered >= patience:
                raise
            found, asked_to_wait = {}, error.retry_after or 0.0
        for one, state in found.items():
            if states[one] != state:
                states[one], moved = state, True
                if changed is not None:
                    changed(one, state)
        if all(state in TERMINAL for state in states.values()):
            break
        left = poll if timeout is None else timeout - (clock() - began)
        if left <= 0:
            still = tuple(one for one, state in states.items() if state not in TERMINAL)
            raise WaitTimeoutError(f"{len(still)} of {len(states)} tasks have not ended after {timeout:g} s.", still)
        pause = min(max(0.05 if moved else pause * 1.5, _IDLE * (clock() - asked)), poll)
        yield Pause(min(max(pause, asked_to_wait), left if timeout is not None else math.inf))
    return states


def _states_of(pending: Sequence[str], unseen: deque[str], tags: Mapping[str, str] | None) -> Operation[dict[str, str]]:
    """The states of these tasks: one by one when they are few, else from the newest pages of the list.

    Those that no page showed are asked for one by one, some in each round; `unseen` keeps whose turn it is.
    """
    found: dict[str, str] = {}
    if len(pending) > _FEW:
        wanted = set(pending)
        token: str | None = None
        for _ in range(2 + 2 * len(pending) // _PAGE):
            tasks, token = yield from page(page_size=_PAGE, page_token=token, tags=tags)
            for task in tasks:
                if task.get("id") in wanted:
                    found[task["id"]] = task.get("state", "UNKNOWN")
            if token is None or len(found) == len(wanted):
                break
    missing = {one for one in pending if one not in found}
    known = set(unseen)
    unseen.extend(one for one in pending if one in missing and one not in known)
    for _ in range(min(len(unseen), _ONE_BY_ONE)):
        one = unseen.popleft()
        if one in missing:
            found[one] = (yield from get(one, "MINIMAL")).get("state", "UNKNOWN")
    return found
