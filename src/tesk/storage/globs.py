"""Walking a confined tree: everything below a directory, and everything that a pattern matches."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

from tesk.storage.base import FileType
from tesk.storage.confine import ConfinementError, Tree
from tesk.storage.errors import reason, shown
from tesk.tes.wildcards import components, literal, match_name

__all__ = ["MAX_ENTRIES", "Fault", "Found", "Skipped", "expand", "walk"]

MAX_ENTRIES = 1_000_000
"""How many files and directories one walk may meet: symlinks can make a small tree look endless."""


class Found(NamedTuple):
    """A file or directory: its path in the tree, its path from where the walk began, what it is."""

    path: str
    relative: str
    type: FileType


class Fault(NamedTuple):
    """Something below the walk's start that cannot be followed, and why, in one sentence."""

    path: str
    sentence: str


class Skipped(NamedTuple):
    """A socket, FIFO or device: nothing that could be copied."""

    path: str


_Inode = tuple[int, int]


def walk(tree: Tree, start: str) -> Iterator[Found | Fault | Skipped]:
    """Everything below the directory `start`, sorted, parents before what they hold; symlinks are followed.

    Raises OSError when `start` itself cannot be listed. A symlink to nothing, out of the tree or back to a
    directory above it is a Fault.
    """
    base = start.rstrip("/")
    todo = [_Open(tree, base or "/", "", ())]
    met = 0
    while todo:
        here = todo[-1]
        entry = next(here.entries, None)
        if entry is None:
            todo.pop()
            continue
        relative = f"{here.relative}/{entry.name}" if here.relative else entry.name
        path = f"{base}/{relative}"
        met += 1
        if met > MAX_ENTRIES:
            yield Fault(path, f"{shown(start)} holds more than {MAX_ENTRIES} files")
            return
        try:
            kind = _followed(tree, path, entry.kind)
            if kind == "other":
                yield Skipped(path)
                continue
            if kind == "directory":
                below = _Open(tree, path, relative, here.chain)
                yield Found(path, relative, "DIRECTORY")
                todo.append(below)
            else:
                yield Found(path, relative, "FILE")
        except OSError as error:
            yield Fault(path, _sentence(path, entry.kind, error))


class _Open:
    """A directory that the walk is in."""

    def __init__(self, tree: Tree, path: str, relative: str, above: tuple[_Inode, ...]) -> None:
        status = tree.stat(path)
        inode = (status.st_dev, status.st_ino)
        if inode in above:
            raise ConfinementError(f"{shown(path)} is a symlink back to a directory above it")
        self.chain = (*above, inode)
        self.relative = relative
        self.entries = iter(tree.scan(path))


def _followed(tree: Tree, path: str, kind: str) -> str:
    if kind != "link":
        return kind
    mode = tree.stat(path).st_mode
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) else "other"


def _sentence(path: str, kind: str, error: OSError) -> str:
    if isinstance(error, ConfinementError):
        return str(error)
    if kind == "link" and isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{shown(path)} is a symlink to something that is not there"
    return f"{shown(path)} cannot be read: {reason(error)}"


def expand(tree: Tree, pattern: str) -> list[str]:
    """The paths in `tree` that match the absolute `pattern`, sorted; nothing that matches is an empty list.

    A symlink that leads nowhere, or out of the tree, does match: what reads it will say so.
    Raises OSError when a directory on the way is there but cannot be read.
    """
    found = [""]
    parts = components(pattern)
    for position, part in enumerate(parts):
        name = literal(part)
        last = position == len(parts) - 1
        if name in (".", ".."):
            return []
        found = [
            f"{directory}/{one}"
            for directory in found
            for one in (_matching(tree, directory or "/", part) if name is None else (name,))
        ]
        if last and name is not None:
            found = [one for one in found if _is_there(tree, one)]
    return found


def _matching(tree: Tree, directory: str, pattern: str) -> list[str]:
    try:
        return [one.name for one in tree.scan(directory) if match_name(pattern, one.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_there(tree: Tree, path: str) -> bool:
    try:
        tree.stat(path, follow=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
