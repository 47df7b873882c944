"""SIGTERM to a command that has something to end in order: heard from the first moment to the last.

asyncio's own `add_signal_handler` is not enough: it leaves the time before the loop runs and after it was closed, in
which the signal would kill us.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from tesk.cli.faults import INTERRUPTED

__all__ = ["end_at_once", "end_by", "ignore"]


def end_at_once() -> None:
    """From now on, until something was begun that must be ended: SIGTERM ends the process with exit code 130.

    No exception: one that is raised in the middle of an import may get lost.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        os.write(2, b"tesk: terminated\n")
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGTERM, end)


def end_by(ask: Callable[[], None]) -> None:
    """From now on SIGTERM calls `ask`, on the main thread between any two instructions."""
    signal.signal(signal.SIGTERM, lambda *_: ask())


def ignore() -> None:
    """From now on it is too late: what the command has come to is what it exits with.

    Also while Python ends, which would put the default back for any other handler.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
