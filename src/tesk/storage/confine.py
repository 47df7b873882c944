"""Paths beneath a root that no `..`, no symlink and no race can leave.

A walk opens one directory after the other, each from the descriptor of the one before and never through a
symlink (`O_NOFOLLOW`); the symlinks it meets it reads and follows itself. So it needs no kernel support
(`openat2`) and holds while another process renames and links in the same tree.

`Tree` takes its root for `/`, as a container sees it: an absolute symlink and `..` stay inside. `HostRoots`
keeps the machine's own paths and refuses what leaves the allowed roots.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Literal, NamedTuple

from tesk.storage.errors import shown

__all__ = ["ConfinementError", "HostRoots", "Owner", "ScanEntry", "Start", "Tree", "names_of", "open_beneath"]

Owner = tuple[int, int]
"""uid and gid that new files and directories are given."""

_MAX_LINKS = 40
_PATH_ONLY = getattr(os, "O_PATH", os.O_RDONLY)
_STEP = _PATH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ConfinementError(PermissionError):
    """A path that would leave the allowed roots; the message is a sentence for the user."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EACCES, sentence)

    def __str__(self) -> str:
        return str(self.strerror)


class ScanEntry(NamedTuple):
    """One name in a directory and what it is, a symlink not followed."""

    name: str
    kind: Literal["file", "directory", "link", "other"]


class Start(NamedTuple):
    """Where a walk starts or starts again: the directory to open, and the components to go from there.

    Where that directory is not the tree's own root: what lies `inside` components below it is `at` in the tree.
    """

    root: str
    names: tuple[str, ...]
    at: tuple[str, ...] = ()
    inside: int = 0


class Tree:
    """A directory tree seen as a container sees it: `root` is `/`.

    Paths are absolute container paths; symlinks are followed, and none leads out. Errors are plain `OSError`s
    with the tree's own path in them.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root)

    def open(
        self,
        path: str,
        flags: int = os.O_RDONLY,
        mode: int = 0o644,
        *,
        parents: int | None = None,
        owner: Owner | None = None,
    ) -> int:
        """A descriptor of the regular file at `path` (of the directory with `O_DIRECTORY`).

        With `parents`, missing directories above it are made with that mode, and given to `owner`. Never
        blocks on a FIFO; anything but a regular file is refused with an OSError.
        """
        with self.parent(path, make=parents, owner=owner) as (directory, name):
            try:
                found = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=directory)
            except OSError as error:
                raise _named(error, path) from None
        try:
            if not flags & os.O_DIRECTORY:
                _require_regular(found, path)
            os.set_blocking(found, True)
        except BaseException:
            os.close(found)
            raise
        return found

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        """What lies at `path`; with `follow`, at the end of its symlinks."""
        with self.parent(path, follow=follow) as (directory, name):
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError as error:
                raise _named(error, path) from None
        if follow and stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, "changed while it was read", path)
        return found

    def scan(self, path: str) -> list[ScanEntry]:
        """The directory at `path`, sorted by name."""
        opened = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(opened) as entries:
                return sorted(ScanEntry(one.name, _kind(one)) for one in entries)
        finally:
            os.close(opened)

    def make_directory(self, path: str, mode: int = 0o755, *, owner: Owner | None = None) -> None:
        """Make the directory at `path` and those above it; one that is there is left as it is."""
        with self.parent(path, make=mode, owner=owner) as (directory, name):
            try:
                os.close(_step(directory, name, mode, owner))
            except OSError as error:
                raise _named(error, path) from None

    @contextmanager
    def parent(
        self, path: str, *, follow: bool = True, make: int | None = None, owner: Owner | None = None
    ) -> Iterator[tuple[int, str]]:
        """A descriptor of the directory that holds `path`, and its name in there (`.` for the root itself).

        With `follow`, the name is that at the end of the symlinks, and is itself none unless it changes
        meanwhile; so open it with `O_NOFOLLOW`. With `make`, missing directories on the way are made with
        that mode.
        """
        try:
            directory, name = self._walk(path, follow, make, owner)
        except ConfinementError:
            raise
        except OSError as error:
            raise _named(error, path) from None
        try:
            yield directory, name
        finally:
            os.close(directory)

    def _walk(self, path: str, follow: bool, make: int | None, owner: Owner | None) -> tuple[int, str]:
        start = self._enter(path, None)
        todo = list(reversed(start.names))
        done: list[str] = []
        links = 0
        here = _open_root(start.root)
        try:
            while todo:
                name = todo.pop()
                if name == "..":
                    start = self._above(start, done, path)
                    done = list(start.names)
                    here = _replace(here, _reopen(start))
                    continue
                crossed = self._crossed(start, done, name)
                if crossed is not None:
                    start, done = crossed, []
                    here = _replace(here, _open_root(start.root))
                    todo.extend(reversed(start.names))
                    continue
                target = _link_target(here, name) if todo or follow else None
                if target is not None:
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    if target.startswith("/"):
                        start, done = self._enter(target, path), []
                        here = _replace(here, _open_root(start.root))
                        todo.extend(reversed(start.names))
                    else:
                        todo.extend(reversed(names_of(target)))
                    continue
                if not todo:
                    return here, name
                here = _replace(here, _step(here, name, make, owner))
                done.append(name)
        except BaseException:
            os.close(here)
            raise
        return here, "."

    def _enter(self, path: str, via: str | None) -> Start:
        """Where the absolute `path` starts; `via` is the path whose symlink leads there."""
        return Start(self.root, names_of(path))

    def _crossed(self, start: Start, done: Sequence[str], name: str) -> Start | None:
        """Where to go on if `name`, in `done` beneath `start.root`, is not what lies there but part of another tree."""
        return None

    def _above(self, start: Start, done: Sequence[str], path: str) -> Start:
        """One up from `done`, which lies beneath `start.root`."""
        return Start(start.root, tuple(done[:-1]))


class HostRoots(Tree):
    """The machine's own paths, as far as they lie beneath `roots` (component by component: /data is not
    /database). A root may be known by another name: `names` has the directories of these, by name.

    Symlinks are followed while they stay within the roots; a path or a symlink that leaves them raises
    ConfinementError.
    """

    def __init__(
        self, roots: Sequence[str | os.PathLike[str]], names: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__("/")
        named = [(os.path.normpath(os.fspath(one)), os.path.normpath(os.fspath(one))) for one in roots]
        named += [(os.path.normpath(name), os.path.normpath(one)) for name, one in names.items()]
        self.roots = dict(sorted(named, key=lambda one: len(one[0]), reverse=True))

    def _enter(self, path: str, via: str | None) -> Start:
        if via is None:
            path = os.path.normpath(path)  # as URLs do it; what a symlink holds is walked as the kernel does
        names = names_of(path)
        for name, root in self.roots.items():
            for spelled in (name, os.path.realpath(root)):
                prefix = names_of(spelled)
                if names[: len(prefix)] == prefix:
                    return Start(root, names[len(prefix) :])
        if via is not None:
            raise _leaves(via, path)
        if not self.roots:
            raise ConfinementError(f"{shown(path)} is refused: this site allows no file paths (file_roots is empty)")
        allowed = ", ".join(shown(one) for one in self.roots)
        raise ConfinementError(f"{shown(path)} is refused: this site allows file paths below {allowed} only")

    def _above(self, start: Start, done: Sequence[str], path: str) -> Start:
        if not done and start.root != "/":
            raise _leaves(path, "..")
        return super()._above(start, done, path)


def open_beneath(
    root: str | os.PathLike[str],
    path: str,
    flags: int = os.O_RDONLY,
    mode: int = 0o644,
    *,
    parents: int | None = None,
    owner: Owner | None = None,
) -> int:
    """A descriptor of the file at container path `path` in the tree at `root`; see `Tree.open`."""
    return Tree(root).open(path, flags, mode, parents=parents, owner=owner)


def names_of(path: str) -> tuple[str, ...]:
    """The components of `path`."""
    return tuple(one for one in path.split("/") if one not in ("", "."))


def _open_root(root: str) -> int:
    return os.open(root, _PATH_ONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _reopen(start: Start) -> int:
    """`..` goes down again from the root: a directory that was moved meanwhile has other parents."""
    here = _open_root(start.root)
    for name in start.names:
        try:
            below = os.open(name, _STEP, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _step(here: int, name: str, make: int | None, owner: Owner | None) -> int:
    """Open the directory `name` in `here`, making it where `make` gives a mode."""
    if make is not None:
        try:
            os.mkdir(name, make, dir_fd=here)
        except FileExistsError:
            pass
        else:
            return _own(os.open(name, _STEP, dir_fd=here), name, here, owner)
    return os.open(name, _STEP, dir_fd=here)


def _own(opened: int, name: str, here: int, owner: Owner | None) -> int:
    if owner is not None:
        try:
            os.chown(name, *owner, dir_fd=here, follow_symlinks=False)
        except BaseException:
            os.close(opened)
            raise
    return opened


def _link_target(here: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=here)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # no symlink; not there (what comes next will say so)
            return None
        raise


def _kind(entry: os.DirEntry[str]) -> Literal["file", "directory", "link", "other"]:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _require_regular(found: int, path: str) -> None:
    mode = os.fstat(found).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "neither a file nor a directory", path)


def _named(error: OSError, path: str) -> OSError:
    return OSError(error.errno, error.strerror, path)


def _leaves(path: str, target: str) -> ConfinementError:
    return ConfinementError(
        f"{shown(path)} is refused: a symlink on its way leads to {shown(target)}, "
        "out of the directories that this site allows"
    )
