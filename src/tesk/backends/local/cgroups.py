"""Control groups, in which the kernel holds an executor to its memory, its share of the processors and its processes.

Both kinds are spoken: the unified tree (v2), delegated to this process's user or root's, and a tree a controller (v1).
Which of them may be used here is found by trying, once.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CONTROLLERS", "ControlGroups", "Group", "Hierarchy", "Limits", "hierarchies", "settings"]

CONTROLLERS = ("memory", "cpu", "pids")
PERIOD = 100_000
LEAST_QUOTA = 1000
LEAST_MEMORY = 6 << 20
"""Below it most programs end before their first line."""
REMOVE_SECONDS = 2.0
PROBE_SECONDS = 10.0
ENTER = 'echo 0 >"$1/cgroup.procs"'


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted tree of control groups.

    `top` is where it is mounted, `own` this process's directory in it. `controllers` are those of CONTROLLERS that it
    has; of a `unified` one, those that may be had.
    """

    top: Path
    own: Path
    controllers: frozenset[str]
    unified: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What an executor may have at a time: bytes of memory, cores, processes and threads; None for no limit."""

    ram_bytes: int | None = None
    cpu_cores: float | None = None
    pids: int | None = None


def settings(limits: Limits, controllers: frozenset[str], *, unified: bool) -> list[tuple[str, str, bool]]:
    """The files of a group, what to write to each in this order, and whether it must be there.

    Swap is no way around a limit of memory, where the kernel counts that. In a unified tree an executor that needs more
    ends whole, as a container of Kubernetes does.
    """
    found: list[tuple[str, str, bool]] = []
    if limits.ram_bytes and "memory" in controllers:
        size = str(max(limits.ram_bytes, LEAST_MEMORY))
        if unified:
            found += [("memory.max", size, True), ("memory.swap.max", "0", False), ("memory.oom.group", "1", False)]
        else:
            found += [("memory.limit_in_bytes", size, True), ("memory.memsw.limit_in_bytes", size, False)]
    if limits.cpu_cores and "cpu" in controllers:
        quota = max(round(limits.cpu_cores * PERIOD), LEAST_QUOTA)
        if unified:
            found += [("cpu.max", f"{quota} {PERIOD}", True)]
        else:
            found += [("cpu.cfs_period_us", str(PERIOD), True), ("cpu.cfs_quota_us", str(quota), True)]
    if limits.pids and "pids" in controllers:
        found += [("pids.max", str(limits.pids), True)]
    return found


def hierarchies(mountinfo: str, membership: str) -> Iterator[Hierarchy]:
    """The trees that have one of CONTROLLERS, out of /proc/self/mountinfo and /proc/self/cgroup."""
    paths: dict[str, str] = {}
    for line in membership.splitlines():
        _, joined, path = line.split(":", 2)
        paths |= dict.fromkeys(joined.split(","), path)
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, top = before.split(" ")[3:5]
        names = [""] if kind == "cgroup2" else [one for one in options.split(",") if one in CONTROLLERS]
        if not names or names[0] not in paths:
            continue
        own = _below(Path(top), root, paths[names[0]])
        unified = kind == "cgroup2"
        yield Hierarchy(Path(top), own, _offered(own, Path(top)) if unified else frozenset(names), unified)


def _found() -> list[Hierarchy]:
    """The trees that this process sees."""
    try:
        return list(hierarchies(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()))
    except OSError:
        return []


def _below(top: Path, root: str, path: str) -> Path:
    """Where the group `path` is seen when the group `root` is mounted at `top`."""
    inside = os.path.relpath(path, root)
    own = top / inside
    return own if not inside.startswith("..") and own.is_dir() else top


def _offered(own: Path, top: Path) -> frozenset[str]:
    """Which controllers groups below `own`, or below one above it, may have."""
    found: set[str] = set()
    for one in (own, *own.parents):
        with contextlib.suppress(OSError):
            found |= {*(one / "cgroup.controllers").read_text().split()} & {*CONTROLLERS}
        if one == top:
            break
    return frozenset(found)


class ControlGroups:
    """The groups of one server: each executor's lie below directories of its own, which `journal` remembers.

    Args:
        journal: a file that outlives this process, so that the next finds what this one left.
        name: what the directories are called; no other server's are.
    """

    def __init__(self, journal: Path, name: str) -> None:
        self._journal = journal
        self._name = name
        self._places: list[_Place] = []

    @property
    def controllers(self) -> frozenset[str]:
        """Which of CONTROLLERS are enforced."""
        return frozenset(one for place in self._places for one in place.controllers)

    @property
    def versions(self) -> str:
        """Which kind they are, for people: "v1", "v2"."""
        return " and ".join(sorted({"v2" if one.unified else "v1" for one in self._places}))

    def step_aside(self) -> None:
        """Where this process is alone in a group that is delegated to it, make that free for groups with limits.

        Before it starts another process, which would be in that group too. Not where an earlier server's groups are
        beside our own (systemd's DelegateSubgroup): nothing could be started in ours then, while executors go on.
        """
        for one in _found():
            if one.unified and not (one.own.parent / self._name).is_dir():
                with contextlib.suppress(OSError):
                    _hand_down(one.own, one.controllers)

    def start(self, found: Iterable[Hierarchy] | None = None, keep: Set[str] = frozenset()) -> None:
        """Remove what an earlier server left, but for the groups called as `keep` says; find out what may be used."""
        self._remove_leftovers(keep)
        for one in _found() if found is None else found:
            lacking = one.controllers - self.controllers
            if lacking and (place := self._settle(one, lacking)) is not None:
                self._places.append(place)

    def make(self, name: str, limits: Limits) -> Group:
        """A group for one executor, with `limits` as far as they can be enforced; raises OSError."""
        # to enter one costs some milliseconds
        places = [one for one in self._places if settings(limits, one.controllers, unified=one.unified)]
        group = Group([one.path / name for one in places])
        try:
            for place in places:
                place.limit(place.path / name, limits)
        except OSError:
            group.remove()
            raise
        return group

    def find(self, name: str) -> Group:
        """The group that an earlier server made for an executor that runs on."""
        return Group([one / name for one in self._known() if (one / name).is_dir()])

    def stop(self, keep: Set[str] = frozenset()) -> None:
        """Remove what is left, but for the groups called as `keep` says; nothing else runs any more."""
        self._remove_leftovers(keep)
        self._places = []

    def _settle(self, hierarchy: Hierarchy, wanted: frozenset[str]) -> _Place | None:
        """The nearest group to our own below which executors' groups can be made and entered."""
        for above in (hierarchy.own, *hierarchy.own.parents):
            place = _Place(above / self._name, wanted, hierarchy.unified)
            self._remember(place.path)
            with contextlib.suppress(OSError):
                if (usable := place.prepare()) is not None:
                    return usable
            _remove(place.path)
            if above == hierarchy.top:
                break
        return None

    def _remember(self, path: Path) -> None:
        """Written before it is made, so that it is found whatever happens then."""
        with self._journal.open("a") as file:
            file.write(f"{path}\n")

    def _known(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return [Path(one) for one in sorted(set(self._journal.read_text().splitlines()))]
        return []

    def _remove_leftovers(self, keep: Set[str]) -> None:
        left = [one for one in self._known() if not _remove(one, keep)]
        if self._journal.exists():
            replacement = self._journal.with_suffix(".new")
            replacement.write_text("".join(f"{one}\n" for one in left))
            replacement.replace(self._journal)


@dataclass(frozen=True, slots=True)
class _Place:
    """The directory of a server in one tree."""

    path: Path
    controllers: frozenset[str]
    unified: bool

    def prepare(self) -> _Place | None:
        """Make it and try it: what of it is of use, or None. Raises OSError."""
        if self.unified:
            _hand_down(self.path.parent, self.controllers)
        self.path.mkdir(exist_ok=True)
        controllers = self.controllers
        if self.unified:
            controllers &= frozenset((self.path / "cgroup.controllers").read_text().split())
            _hand_down(self.path, controllers)
        usable = _Place(self.path, controllers, self.unified)
        probe = self.path / "probe"
        try:
            usable.limit(probe, Limits(ram_bytes=1 << 30, cpu_cores=1.0, pids=64))
            entered = subprocess.run(
                ["/bin/sh", "-c", ENTER, "sh", str(probe)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        finally:
            _remove(probe)
        return usable if controllers and entered.returncode == 0 else None

    def limit(self, group: Path, limits: Limits) -> None:
        """Make `group` and give it these limits; raises OSError."""
        group.mkdir(exist_ok=True)  # a server may have ended just before it was used
        for name, value, needed in settings(limits, self.controllers, unified=self.unified):
            if needed or (group / name).exists():
                _write(group / name, value)


class Group:
    """The control group of one executor: a directory in each tree."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    @property
    def doors(self) -> list[str]:
        """The files to which a process writes "0" to be in it, with all that it starts from then on."""
        return [str(one / "cgroup.procs") for one in self._paths]

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed since they needed more memory than allowed."""
        found = 0
        for path in self._paths:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    found += sum(int(one) for one in re.findall(r"^oom_kill (\d+)$", (path / name).read_text(), re.M))
        return found

    def remove(self) -> None:
        """Remove it, once none of its processes is left; what cannot be removed is tried again at the next start."""
        for one in self._paths:
            _remove(one)


def _hand_down(path: Path, controllers: Iterable[str]) -> None:
    """Let groups below `path` have `controllers`, as far as that is allowed (v2).

    A group with processes of its own has none below that are limited, but for the root: if they are ours alone, they
    move to one side. The kernel itself refuses that for memory only; with others the groups below could not be entered.
    """
    there = (path / "cgroup.subtree_control").read_text().split()
    offered = (path / "cgroup.controllers").read_text().split()
    lacking = [one for one in controllers if one in offered and one not in there]
    if not lacking:
        return
    processes = (path / "cgroup.procs").read_text().split()
    if processes and (path / "cgroup.type").exists():  # which the root has not
        if processes != [str(os.getpid())]:
            return
        aside = path / "tesk-server"
        aside.mkdir(exist_ok=True)
        _write(aside / "cgroup.procs", "0")
    for one in lacking:
        with contextlib.suppress(OSError):
            _write(path / "cgroup.subtree_control", f"+{one}")


def _write(path: Path, value: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _remove(path: Path, keep: Set[str] = frozenset()) -> bool:
    """Remove a group and those below it, but for `keep`; whether it is gone. Its last process may just be going."""
    end = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            below = [one for one in path.iterdir() if one.is_dir()]
            for one in below:
                if one.name not in keep:
                    one.rmdir()
            if any(one.name in keep for one in below):
                return False
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
            continue
        return True
