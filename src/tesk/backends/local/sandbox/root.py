"""The file tree that a sandboxed command sees: the machine's own, read-only, with some places private or hidden.

`prepare` builds the read-only picture of the machine once; `assemble` makes one executor's root from it, with any
mount point, also where the machine has no such directory, and without touching the machine: where a directory
lacks an entry, a small file system of its own takes its place, into which each entry of the old one is bound.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence

from tesk.backends.local.sandbox import kernel

__all__ = ["Bind", "assemble", "prepare"]

Bind = tuple[str, str, bool]
"""(source on the machine, path in the sandbox, read-only)."""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PRIVATE = ("/proc", "/dev", "/tmp", "/var/tmp")
MAX_LINKS = 40


def prepare(base: str, hidden: Iterable[str]) -> None:
    """Show the machine's root read-only at `base`, with the directories of `hidden` and /run empty."""
    os.makedirs(base, exist_ok=True)
    kernel.bind("/", base)
    resolver = _contents("/etc/resolv.conf")
    for path in outermost(["/run", *hidden]):
        where = base + path
        if os.path.isdir(where) and not os.path.islink(where):
            kernel.mount("tmpfs", where, "mode=755,size=64k")
            target = os.path.realpath("/etc/resolv.conf")
            if resolver is not None and target.startswith(path + "/"):
                # Name resolution goes through a link into /run on systemd machines.
                os.makedirs(os.path.dirname(base + target), exist_ok=True)
                with open(base + target, "wb") as file:
                    file.write(resolver)
    kernel.read_only(base)


def outermost(paths: Iterable[str]) -> list[str]:
    """`paths`, without those that lie in another one; never the root itself."""
    kept: list[str] = []
    for path in sorted({os.path.realpath(one) for one in paths} - {"/"}):
        if not any(path.startswith(one + "/") for one in kept):
            kept.append(path)
    return kept


def _contents(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def assemble(base: str, root: str, binds: Sequence[Bind], private: str, workdir: str | None) -> None:
    """Build one executor's root at `root` out of `base`, and make it this process's root.

    `binds` are shown at their paths. `private` is an empty directory of this executor's own, where /tmp, /var/tmp and
    a `workdir` that is found nowhere get their space.
    """
    tree = _Tree(base, root)
    for name in ("tmp", "var-tmp"):
        path = "/" + name.replace("-", "/")
        if not any(target == path for _, target, _ in binds):
            tree.show(_space(private, name), path)
    for source, target, only_read in sorted(binds, key=lambda one: one[1]):
        tree.show(source, target, only_read=only_read)
    if workdir is not None and not os.path.isdir(root + tree.resolve(workdir)):
        tree.show(_space(private, "workdir"), workdir)
    tree.close()
    _devices(base, root)
    kernel.mount("proc", root + "/proc", flags=kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.pivot_root(root)


def _space(private: str, name: str) -> str:
    path = f"{private}/{name}"
    os.mkdir(path)
    os.chmod(path, 0o1777)
    return path


def _devices(base: str, root: str) -> None:
    where = root + "/dev"
    kernel.mount("tmpfs", where, "mode=755,size=64k", kernel.MS_NOSUID | kernel.MS_NOEXEC)
    for name in DEVICES:
        with open(f"{where}/{name}", "w"):
            pass
        kernel.bind(f"{base}/dev/{name}", f"{where}/{name}")
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"{where}/{name}")
    os.mkdir(where + "/shm")
    kernel.mount("tmpfs", where + "/shm", "mode=1777")
    kernel.read_only_here(where)


class _Tree:
    """A root under construction; remembers which of its directories are its own and may get new entries."""

    def __init__(self, base: str, root: str) -> None:
        self.base = base
        self.root = root
        self.own: list[str] = []
        self.shown: list[Bind] = []
        self._open("/")

    def show(self, source: str, path: str, *, only_read: bool = False) -> None:
        """Bind `source`, a directory or a file, at `path`."""
        path = self.resolve(path)
        self._make(path, directory=os.path.isdir(source))
        self._bind(source, path, only_read)
        self.shown.append((source, path, only_read))

    def _bind(self, source: str, path: str, only_read: bool) -> None:
        kernel.bind(source, self.root + path)
        if only_read:
            kernel.read_only(self.root + path)

    def close(self) -> None:
        """Let nothing more be added."""
        for path in self.own:
            kernel.read_only_here(self.root + path)

    def resolve(self, path: str) -> str:
        """`path` with every symbolic link on its way followed, as the sandboxed command would see it."""
        todo = [part for part in path.split("/") if part]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            here = self.root + "/" + "/".join([*done, part])
            if os.path.islink(here):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(0, f"too many symbolic links in {path}")
                target = os.readlink(here)
                if target.startswith("/"):
                    done = []
                todo = [one for one in target.split("/") if one and one != "."] + todo
                continue
            done.append(part)
        return "/" + "/".join(done)

    def _make(self, path: str, *, directory: bool) -> None:
        """Make sure that `path` exists, as something to mount on."""
        parent = os.path.dirname(path)
        if os.path.lexists(self.root + path):
            return
        if parent != path and not os.path.isdir(self.root + parent):
            self._make(parent, directory=True)
        if not os.access(self.root + parent, os.W_OK):
            self._open(parent)
        if directory:
            os.mkdir(self.root + path)
        else:
            with open(self.root + path, "w"):
                pass

    def _open(self, path: str) -> None:
        """Replace the directory at `path` by one of our own that shows the same entries."""
        source = self.base + path.rstrip("/")
        where = self.root + path.rstrip("/")
        kernel.mount("tmpfs", where, "mode=755,size=4m")
        with os.scandir(source) as entries:
            for entry in entries:
                if path.rstrip("/") + "/" + entry.name in PRIVATE:
                    os.mkdir(f"{where}/{entry.name}")
                else:
                    self._copy(entry, f"{where}/{entry.name}")
        self.own.append(path)
        for shown in self.shown:
            if shown[1].startswith(path.rstrip("/") + "/"):  # our directory has just covered it
                self._bind(*shown)

    def _copy(self, entry: os.DirEntry[str], target: str) -> None:
        kind = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            os.symlink(os.readlink(entry.path), target)
            return
        if stat.S_ISDIR(kind):
            os.mkdir(target)
        else:
            with open(target, "w"):
                pass
        kernel.bind(entry.path, target)
