"""What a request says beside its path and body: the parameters of GetTask, ListTasks and of our logs, and headers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

from starlette.datastructures import Headers, QueryParams

from tesk.backends.base import LogStream
from tesk.server.problems import Problem
from tesk.server.tokens import BadToken, PageTokens
from tesk.store import Query
from tesk.tes.states import State
from tesk.tes.views import View

__all__ = ["LogsQuery", "idempotency_key", "list_query", "logs_query", "view_of"]

MOST_TASKS = 2047
USUAL_TASKS = 256
MOST_TAGS = 32
_KEY = re.compile(r"[!-~]{1,255}")

_VIEWS = {view.value: view for view in View}
_STATES = {state.value: state for state in State}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LogsQuery:
    """Which log is asked for."""

    executor: int
    stream: LogStream
    follow: bool


class _Parameters:
    """The parameters of one request; faults gather, so that the client hears of all at once."""

    def __init__(self, params: QueryParams) -> None:
        self.params = params
        self.faults: list[tuple[str, str]] = []

    def one(self, name: str) -> str | None:
        """The only value of `name`, None when it is not there."""
        values = self.params.getlist(name)
        if len(values) > 1:
            self.fault(name, "is given more than once")
        return values[0] if values else None

    def word(self, name: str, words: dict[str, _T], default: _T) -> _T:
        """The value of `name` as one of `words`."""
        text = self.one(name)
        if text is None:
            return default
        if text not in words:
            self.fault(name, f"must be one of {', '.join(words)}, not {text!r}")
        return words.get(text, default)

    def number(self, name: str, least: int, most: int, default: int) -> int:
        """The value of `name` as a whole number between `least` and `most`."""
        text = self.one(name)
        if text is None:
            return default
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
        if not least <= number <= most:
            self.fault(name, f"must be a whole number from {least} to {most}, not {text!r}")
        return number

    def fault(self, name: str, sentence: str) -> None:
        """Note one fault."""
        self.faults.append((name, sentence))

    def raise_any(self) -> None:
        """Raise Problem when there was a fault."""
        if self.faults:
            detail = "; ".join(f"{name} {sentence}" for name, sentence in self.faults)
            raise Problem(400, f"The query is wrong: {detail}.", self.faults)


def view_of(params: QueryParams) -> View:
    """The view of GetTask; MINIMAL when nothing is said."""
    found = _Parameters(params)
    view = found.word("view", _VIEWS, View.MINIMAL)
    found.raise_any()
    return view


def list_query(params: QueryParams, tokens: PageTokens) -> Query:
    """The query of ListTasks (TES 1.1.0, section "ListTasks"); Problem with every fault."""
    found = _Parameters(params)
    before = None
    token = found.one("page_token")
    if token:
        try:
            before = tokens.read(token)
        except BadToken:
            found.fault("page_token", "is not a token that this server gave")
    query = Query(
        view=found.word("view", _VIEWS, View.MINIMAL),
        page_size=found.number("page_size", 1, MOST_TASKS, USUAL_TASKS),
        before=before,
        name_prefix=found.one("name_prefix") or None,
        state=found.word("state", dict[str, State | None](_STATES), None),
        tags=_tags(found),
    )
    found.raise_any()
    return query


def _tags(found: _Parameters) -> tuple[tuple[str, str], ...]:
    keys, values = found.params.getlist("tag_key"), found.params.getlist("tag_value")
    if len(values) > len(keys):
        found.fault("tag_value", f"is given {len(values)} times but tag_key only {len(keys)} times")
    if len(keys) > MOST_TAGS:
        found.fault("tag_key", f"is given {len(keys)} times; at most {MOST_TAGS} tags can be asked for at once")
    for key, times in Counter(keys).items():
        if times > 1:
            found.fault("tag_key", f"{key!r} is given {times} times")
    values += [""] * (len(keys) - len(values))
    return tuple(zip(keys, values, strict=False))


def logs_query(params: QueryParams) -> LogsQuery:
    """The query of `GET /tasks/{id}/logs`."""
    found = _Parameters(params)
    streams: dict[str, LogStream] = {"stdout": "stdout", "stderr": "stderr"}
    query = LogsQuery(
        executor=found.number("executor", 0, 10**6, 0),
        stream=found.word("stream", streams, "stdout"),
        follow=found.word("follow", {"true": True, "false": False}, False),
    )
    found.raise_any()
    return query


def idempotency_key(headers: Headers) -> str | None:
    """The request's `Idempotency-Key`, None without one; raises Problem unless it is 1 to 255 visible ASCII letters."""
    keys = headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Problem(400, "The header Idempotency-Key must be given once, as 1 to 255 visible ASCII characters.")
    return keys[0]
