"""Work in a child process that goes when it is done, and takes the memory with it that it needed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

__all__ = ["apart"]

_PIECE = 65536


async def apart(work: Callable[[], bytes]) -> bytes:
    """What `work` gives, done in a fork of this process; cancelled, the child is killed.

    Raises ChildProcessError, with a clause, when the child died. No other thread may run in this process.
    """
    mine, its = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(mine)
        os._exit(_work(work, its))
    os.close(its)
    said, over = b"", asyncio.Event()

    def hear() -> None:
        nonlocal said
        piece = os.read(mine, _PIECE)
        said += piece
        if not piece:
            over.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(mine, hear)
    try:
        await over.wait()
    except asyncio.CancelledError:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        loop.remove_reader(mine)
        os.close(mine)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: ASYNC222 it has closed its pipe: it is over
    if code == -signal.SIGKILL:
        raise ChildProcessError("it was killed, as when it needs more memory than its container may have")
    if code != 0:
        raise ChildProcessError(f"it ended with {code}")
    return said


def _work(work: Callable[[], bytes], out: int) -> int:
    """The child's exit code."""
    try:
        with os.fdopen(out, "wb") as pipe:
            pipe.write(work())
    except BaseException:  # noqa: BLE001 it must not go on as a second taskmaster
        import traceback

        traceback.print_exc()
        return 1
    return 0
