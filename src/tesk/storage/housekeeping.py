"""Old directories of a shared storage: found by pattern and age, removed without following a symlink."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tesk.storage.confine import Tree
from tesk.storage.globs import expand

__all__ = ["Old", "find_old", "remove_old"]


class Old(NamedTuple):
    """A directory, its `path` relative to the storage's root: when anything in it last changed (seconds since 1970),
    and the bytes of its files.
    """

    path: str
    changed: float
    size_bytes: int


def find_old(root: Path, pattern: str, before: float) -> Iterator[Old]:
    """The directories below `root` that match `pattern` and in which nothing has changed since `before`.

    `pattern` is as in outputs (POSIX 1003.1-2017 2.13), relative to the root. Raises OSError where a directory on the
    way cannot be read.
    """
    tree = Tree(root)
    for path in expand(tree, "/" + pattern.strip("/")):
        if not stat.S_ISDIR(tree.stat(path, follow=False).st_mode):
            continue
        with tree.parent(path, follow=False) as (directory, name):
            changed, size = _measure(directory, name)
        if changed < before:
            yield Old(path[1:], changed, size)


def remove_old(root: Path, old: Old) -> None:
    """Remove the directory and all below it. Raises OSError at the first thing that cannot be removed."""
    with Tree(root).parent("/" + old.path, follow=False) as (directory, name):
        shutil.rmtree(name, dir_fd=directory)


def _measure(directory: int, name: str) -> tuple[float, int]:
    """When anything at or below `name` last changed, and the bytes of the files there; links are not followed."""
    newest, size = 0.0, 0
    for _, directories, files, here in os.fwalk(name, dir_fd=directory, follow_symlinks=False, onerror=_raise):
        newest = max(newest, os.fstat(here).st_mtime)
        for one in (*directories, *files):  # a link to a directory is among those
            found = os.stat(one, dir_fd=here, follow_symlinks=False)
            newest = max(newest, found.st_mtime)
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return newest, size


def _raise(error: OSError) -> None:
    raise error
