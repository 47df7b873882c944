"""Work that is ended early when it takes more than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Overused", "unless"]

T = TypeVar("T")


class Overused(Exception):
    """The work was ended; the message is a clause about what it took too much of."""


async def unless(work: Coroutine[Any, Any, T], *watches: Coroutine[Any, Any, str]) -> T:
    """What `work` comes to, unless one of `watches` comes to its end before.

    Then `work` is cancelled, awaited, and Overused raised with what that watch says.
    """
    doing = asyncio.ensure_future(work)
    watching = [asyncio.ensure_future(one) for one in watches]
    try:
        await asyncio.wait([doing, *watching], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            said = next(one for one in watching if one.done()).result()
            doing.cancel()
            await asyncio.wait([doing])
            if doing.cancelled():
                raise Overused(said)
        return doing.result()
    finally:
        for one in (doing, *watching):
            one.cancel()
        await asyncio.wait([doing, *watching])
