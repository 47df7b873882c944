"""How long a step may wait, and what the user is told meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tesk.backends.kubernetes.observation import Waiting
from tesk.taskmaster.steps import StepFailed

__all__ = ["EXPLAIN_AFTER", "Patience"]

EXPLAIN_AFTER = 3.0
"""Seconds after which a step that has not started is looked into."""

_SHOW_AFTER = {False: 1.5, True: 10.0}
"""By whether it is usual. Each time that something is shown costs two requests: on a busy cluster all wait."""

_TELL_AFTER = 3.0
_MOST_NOTES = 8


class Patience:
    """Of one step, called `what` in sentences.

    What waiting cannot cure is waited for `start_timeout` seconds at most, what it can for `queue_timeout` (None: for
    ever). `note` is told each reason that is not usual and has lasted three seconds; `show` each that has lasted one
    and a half, or ten if it is usual, and None when it waits no longer.
    """

    __slots__ = ("_began", "_clock", "_limits", "_note", "_reason", "_show", "_shown", "_since", "_told", "what")

    def __init__(
        self,
        what: str,
        note: Callable[[str], None],
        *,
        start_timeout: float,
        queue_timeout: float | None,
        show: Callable[[str | None], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self._note = note
        self._show = show
        self._shown: str | None = None
        self._limits = (start_timeout, queue_timeout)
        self._clock = clock
        self._since: dict[bool, float] = {}
        self._began = clock()
        self._reason: tuple[str, float] = ("", 0.0)
        self._told: tuple[str, ...] = ()

    def renew(self) -> None:
        """It runs: what it waited for before does not count."""
        self._since.clear()
        self._tell(None)

    def wait(self, waiting: Waiting) -> float:
        """Note that it waits now; for how many seconds at most nothing need be done about that.

        Raises StepFailed when it has waited too long.
        """
        now, told = self._clock(), sys.intern(f"{self.what} waits: {waiting.sentence}")  # thousands wait for one thing
        # What is usual comes between two tries of what is not, and must not begin its time anew.
        before = self._since if waiting.usual else {}
        self._since = {**before, waiting.curable: self._since.get(waiting.curable, now)}
        limit, waited = self._limits[waiting.curable], now - self._since[waiting.curable]
        if limit is not None and waited >= limit:
            raise StepFailed(f"{self.what} could not start within {limit:g} s: {waiting.sentence}")
        if self._reason[0] != waiting.sentence:
            self._reason = (waiting.sentence, now)
        lasted = now - self._reason[1]
        new = not waiting.usual and waiting.sentence not in self._told
        if new and lasted >= _TELL_AFTER and len(self._told) < _MOST_NOTES:
            self._told += (waiting.sentence,)
            self._note(told)
        show_after = _SHOW_AFTER[waiting.usual]
        if lasted >= show_after:
            self._tell(told)
        moments = (show_after, _TELL_AFTER)
        nearest = [EXPLAIN_AFTER - (now - self._began), (limit or 3600.0) - waited, *(one - lasted for one in moments)]
        return min([one for one in nearest if one > 0.0] or [3600.0]) + 0.01

    def _tell(self, sentence: str | None) -> None:
        if sentence != self._shown:
            self._shown = sentence
            self._show(sentence)
