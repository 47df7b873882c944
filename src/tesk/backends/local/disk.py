"""How much disk attempts take: looked at again and again, at a price that does not grow with their files."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tesk.backends.limits import filled_the_disk, used_more_disk
from tesk.plan.model import Plan
from tesk.storage.confine import Tree

__all__ = ["DiskWatch", "sizes"]

SLICE = 1000
"""Entries that are looked at in one go."""
SHARE = 0.05
"""Of one processor, for all attempts together."""
FIRST_PAUSE = 0.2
"""Most of what runs shorter than this is not worth a look."""
PAUSE = 1.0
MOST_PENDING = 100_000
"""Directories that are still to be looked at; a tree with more at once is not looked at wholly."""
RESERVE_BYTES = 10**9
RESERVE_PART = 100


class DiskWatch:
    """Watches the attempts of one server.

    Args:
        state: a directory of the file system that all of them fill.
        allowed: bytes that an attempt may take that declares none; None for any number.
    """

    def __init__(self, state: Path, allowed: int | None) -> None:
        self._state = state
        self._allowed = allowed
        self._turn = asyncio.Lock()
        self._beyond: dict[object, int] = {}

    async def overuse(self, plan: Plan, roots: Callable[[], Iterable[Path]]) -> str:
        """Return, with a sentence, when the trees at `roots` hold more than an attempt at `plan` may take.

        Or when the disk is all but full, and no other attempt takes so much more than it declared.
        """
        me = object()
        await asyncio.sleep(FIRST_PAUSE)
        try:
            while True:
                taken = 0
                for entries in [sizes(one) for one in roots()]:
                    while (more := await self._some(entries)) is not None:
                        taken += more
                        if (said := self.too_much(plan, taken)) is not None:
                            return said
                self._beyond[me] = taken - (plan.resources.disk_bytes or 0)
                if self._beyond[me] == max(self._beyond.values()) and self._would_make_room(self._beyond[me]):
                    return filled_the_disk(taken)
                await asyncio.sleep(PAUSE)
        finally:
            self._beyond.pop(me, None)

    def too_much(self, plan: Plan, taken: int) -> str | None:
        """A sentence when an attempt at `plan` may not take so many bytes."""
        declared = plan.resources.disk_bytes
        allowed = declared or self._allowed
        if allowed is None or taken <= allowed:
            return None
        return used_more_disk(allowed, declared=declared is not None)

    def _would_make_room(self, beyond: int) -> bool:
        """Whether the server itself could soon write nothing more, and `beyond` bytes more would help that."""
        disk = shutil.disk_usage(self._state)
        reserve = min(RESERVE_BYTES, disk.total // RESERVE_PART)
        return disk.free < reserve <= beyond

    async def _some(self, entries: Iterator[int]) -> int | None:
        """What a number of entries take; None when there are no more."""
        async with self._turn:
            began = time.monotonic()
            found = await asyncio.to_thread(lambda: list(itertools.islice(entries, SLICE)))
            await asyncio.sleep((time.monotonic() - began) * (1 / SHARE - 1))
        return sum(found) if found else None


def sizes(root: Path) -> Iterator[int]:
    """The bytes on disk of everything below `root`, one after the other; a file of many names in as many parts.

    No link leads out, and what is gone meanwhile or may not be read counts nothing.
    """
    tree = Tree(root)
    pending = ["/"]
    while pending:
        path = pending.pop()
        try:
            opened = tree.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            with os.scandir(opened) as entries:
                for one in entries:
                    found = _found(one)
                    if found is None:
                        continue
                    yield found.st_blocks * 512 // max(1, found.st_nlink if one.is_file(follow_symlinks=False) else 1)
                    if one.is_dir(follow_symlinks=False) and len(pending) < MOST_PENDING:
                        pending.append(f"{path}/{one.name}")
        finally:
            os.close(opened)


def _found(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None
