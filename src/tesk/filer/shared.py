"""What a plan has in shared storage: made ready before the first executor, and left as it should be after the last."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from tesk.filer.results import TransferError, bounded, sentence
from tesk.plan.model import FileType, Plan, SharedMount, Transfer
from tesk.plan.paths import nearest, parent, upwards
from tesk.storage.confine import Tree
from tesk.storage.errors import reason, shown
from tesk.storage.view import Mounted, View

__all__ = ["leave_shared", "prepare_shared", "view_of"]

_FOR_ALL = 0o777
_PLACEHOLDER = 0
"""The mode by which a mount point that we made is known again, as long as it is empty."""


def view_of(plan: Plan, scratch: Path | None, roots: Mapping[str, Path]) -> Tree:
    """The task's files as its executors see them; `roots` are the shared storages of the site by name."""
    if not plan.shared and scratch is not None:
        return Tree(scratch)
    mounts = {one.path: Mounted(str(roots[one.place.storage]), one.place.path) for one in plan.shared}
    if scratch is not None:
        mounts.update({one.path: Mounted(str(scratch), one.path) for one in plan.mounts})
    return View(scratch, mounts)


def prepare_shared(plan: Plan, roots: Mapping[str, Path]) -> int:
    """Make the directories that executors write in, and the mount points that lie in them.

    Returns how many bytes the inputs have that need not be moved; what is in directories is not counted. Raises
    TransferError where an input is not there, or a directory cannot be made.
    """
    tree = view_of(plan, None, roots)
    used = sorted({one.place.storage for one in plan.shared})
    faults = [f"the shared storage '{one}' is not there: {roots[one]}" for one in used if not roots[one].is_dir()]
    if not faults:
        sizes = [_size(one, tree, faults) for one in plan.shared_inputs]
    if not faults:
        writable = _writable(plan)
        for path in sorted({*writable, *plan.shared_directories}):
            around = writable[nearest(path, writable) or path]
            try:
                _make(_tree(around, roots), _source(around, path))
            except OSError as error:
                where = f"{shown(_source(around, path)[1:])} of the shared storage '{around.place.storage}'"
                faults.append(f"the directory {shown(path)}, {where}, cannot be made: {reason(error)}")
    if not faults:
        for path, kind, around in _mount_points(plan):
            try:
                _make_mount_point(_tree(around, roots), _source(around, path), kind)
            except OSError as error:
                faults.append(f"{shown(path)} cannot be mounted in shared storage: {reason(error)}")
    if faults:
        raise TransferError(bounded(faults))
    return sum(sizes)


def leave_shared(plan: Plan, roots: Mapping[str, Path]) -> None:
    """Remove the mount points that were made, as far as that can be done."""
    for path, kind, around in _mount_points(plan):
        _remove_mount_point(_tree(around, roots), _source(around, path), kind)


def _writable(plan: Plan) -> dict[str, SharedMount]:
    return {one.path: one for one in plan.shared if not one.read_only}


def _tree(mount: SharedMount, roots: Mapping[str, Path]) -> Tree:
    return Tree(roots[mount.place.storage])


def _source(mount: SharedMount, path: str) -> str:
    """Where in its storage lies what is seen at `path`, below the mount."""
    return f"/{mount.place.path}{path[len(mount.path) :]}"


def _size(one: Transfer, tree: Tree, faults: list[str]) -> int:
    """The bytes of an input that is a file; what it is not, as it should be, is a fault."""
    url = shown(one.url or "")
    try:
        found = tree.stat(one.path)
    except OSError as error:
        absent = isinstance(error, FileNotFoundError)
        cause = f"{url} does not exist" if absent else f"{url} cannot be read: {reason(error)}"
        faults.append(sentence("input", one, cause))
        return 0
    directory = stat.S_ISDIR(found.st_mode)
    if directory != (one.type == "DIRECTORY"):
        kind = "a directory" if directory else "a file"
        faults.append(sentence("input", one, f"{url} is {kind}, and the input's type is {one.type}"))
    return 0 if directory else found.st_size


def _make(tree: Tree, path: str) -> None:
    """Make the directory at `path`, for all users; those that are there stay as they are."""
    missing = []
    for up in upwards(path):
        try:
            if not stat.S_ISDIR(tree.stat(up).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), up)
            break
        except FileNotFoundError:
            missing.append(up)
    for up in reversed(missing):
        with tree.parent(up) as (directory, name):
            try:
                os.mkdir(name, dir_fd=directory)
                os.chmod(name, _FOR_ALL, dir_fd=directory)
            except FileExistsError:  # another task needs it too
                pass


def _mount_points(plan: Plan) -> Iterator[tuple[str, FileType, SharedMount]]:
    """Mounts that lie in directories of shared storage that are mounted to be written in, each with that directory."""
    writable = _writable(plan)
    kinds = {one.path: one.type for one in plan.mounts} | {one.path: one.type for one in plan.shared}
    for path in sorted(kinds):
        around = nearest(parent(path), writable)
        if around is not None and path not in writable:
            yield path, kinds[path], writable[around]


def _make_mount_point(tree: Tree, path: str, kind: FileType) -> None:
    _make(tree, parent(path))
    with tree.parent(path, follow=False) as (directory, name):
        try:
            if kind == "DIRECTORY":
                os.mkdir(name, _PLACEHOLDER, dir_fd=directory)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(name, flags, _PLACEHOLDER, dir_fd=directory))
        except FileExistsError:
            pass


def _remove_mount_point(tree: Tree, path: str, kind: FileType) -> None:
    try:
        with tree.parent(path, follow=False) as (directory, name):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_IMODE(found.st_mode) != _PLACEHOLDER:
                return
            if kind == "DIRECTORY":
                os.rmdir(name, dir_fd=directory)
            elif found.st_size == 0:
                os.unlink(name, dir_fd=directory)
    except OSError:
        return
