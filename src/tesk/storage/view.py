"""A task's files as its executors see them: scratch, and what is mounted there of other trees."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tesk.storage.confine import Start, Tree, names_of

__all__ = ["Mounted", "View", "described", "from_description"]


class Mounted(NamedTuple):
    """What is seen at a path: what lies at `path`, relative to the directory `root` of this machine."""

    root: str
    path: str


class View(Tree):
    """A `Tree` in which `mounts`, by container path, hide what lies there; without `scratch` there is nothing else.

    The directories above a mount need not be in scratch. A symlink is followed as in the container, and none leads out
    of the trees.
    """

    def __init__(self, scratch: str | os.PathLike[str] | None, mounts: Mapping[str, Mounted]) -> None:
        super().__init__(scratch or "")
        self._mounts = {names_of(path): one for path, one in mounts.items()}

    def _enter(self, path: str, via: str | None) -> Start:
        names = names_of(path)
        literal = names.index("..") if ".." in names else len(names)
        for size in range(literal, 0, -1):
            if (found := self._at(names[:size], names[size:])) is not None:
                return found
        if not self.root:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return super()._enter(path, via)

    def _at(self, names: tuple[str, ...], rest: tuple[str, ...]) -> Start | None:
        """Where to start for what lies at `rest` in the mount at `names`; None: there is no mount."""
        found = self._mounts.get(names)
        if found is None:
            return None
        inside = names_of(found.path)
        return Start(found.root, inside + rest, names, len(inside))

    def _crossed(self, start: Start, done: Sequence[str], name: str) -> Start | None:
        if len(done) < start.inside:
            return None
        return self._at((*start.at, *done[start.inside :], name), ())

    def _above(self, start: Start, done: Sequence[str], path: str) -> Start:
        if len(done) > start.inside:
            return start._replace(names=tuple(done[:-1]))
        return self._enter("/" + "/".join(start.at[:-1]), path)


def described(tree: Tree) -> dict[str, Any]:
    """The tree in plain values, for another process of this machine."""
    mounts = tree._mounts if isinstance(tree, View) else {}
    return {"scratch": tree.root, "mounts": {"/" + "/".join(names): list(one) for names, one in mounts.items()}}


def from_description(description: Mapping[str, Any]) -> View:
    """The tree that was `described`."""
    return View(description["scratch"], {path: Mounted(*one) for path, one in description["mounts"].items()})
