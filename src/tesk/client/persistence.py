"""When a request is sent again, and how long this goes on.

| request | sent again after |
|---|---|
| read, list, cancel | no answer, or 429, 502, 503, 504 |
| create | no connection (nothing was sent), or 429 (the server refused to look at it) |
| create, on a server that honours `Idempotency-Key` | as a read |

A server shows that it honours the key by an `Idempotency-Key` header in any of its answers. On others a create that
may have arrived is never sent twice: two tasks would cost more than an error.
A server that has never answered is not asked again when nothing listens: a wrong address should be told at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar, cast

from tesk.client.errors import ClientError, ServerUnreachableError
from tesk.client.operations import PASSING, Answer, Operation, Pause, Request

__all__ = ["RETRY_SECONDS", "persistent"]

RETRY_SECONDS = 20.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

T = TypeVar("T")


def persistent(
    operation: Operation[T],
    *,
    seconds: float,
    reached: Callable[[], bool],
    keyed: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    chance: Callable[[], float] = random.random,
) -> Operation[T]:
    """`operation`, with each of its requests repeated for up to `seconds` where that is safe.

    `reached` says whether the server has ever answered, `keyed` whether it honours `Idempotency-Key`. Pauses grow and
    differ by `chance` (0 to 1), so that many clients do not come back together.
    """
    try:
        step = next(operation)
        while True:
            if isinstance(step, Pause):
                yield step
                step = operation.send(None)
                continue
            try:
                answer = yield from _repeat(step, seconds, reached, keyed, clock, chance)
            except ClientError as error:
                step = operation.throw(error)
            else:
                step = operation.send(answer)
    except StopIteration as end:
        return cast(T, end.value)


def _repeat(
    request: Request,
    seconds: float,
    reached: Callable[[], bool],
    keyed: Callable[[], bool],
    clock: Callable[[], float],
    chance: Callable[[], float],
) -> Operation[Answer]:
    began, growing = clock(), _FIRST_PAUSE
    while True:
        fault: ServerUnreachableError | None = None
        answer: Answer | None = None
        asked = 0.0
        try:
            answer = cast(Answer, (yield request))
        except ServerUnreachableError as error:
            fault = error
        safe = request.repeatable or keyed()
        if answer is not None:
            if answer.status not in PASSING or not (safe or answer.status == 429):
                return answer
            asked = answer.retry_after or 0.0
        elif fault is not None and (not reached() or not (safe or not fault.sent)):
            raise _doubt(request, fault)
        pause = max(asked, growing * (0.5 + chance() / 2))
        if pause > seconds - (clock() - began):
            if fault is not None:
                raise _doubt(request, fault)
            return cast(Answer, answer)
        yield Pause(pause)
        growing = min(growing * 2, _LONGEST_PAUSE)


def _doubt(request: Request, fault: ServerUnreachableError) -> ServerUnreachableError:
    """`fault`, with what it means for a create whose fate nobody knows."""
    if request.repeatable or not fault.sent:
        return fault
    return ServerUnreachableError(
        *fault.problems, "the task may have been created all the same: list the tasks before you send it again."
    )
