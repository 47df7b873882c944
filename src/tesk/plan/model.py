"""The plan: what must happen for one task, as plain data that every backend, taskmaster and filer reads.

A plan is JSON (law 4). It names files by their path *in the container*; the scratch tree of an attempt
mirrors those paths, so `/data/in.txt` lies at `<scratch>/data/in.txt`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from tesk.plan.paths import nearest

__all__ = ["Delivery", "ExecutorPlan", "Mount", "Place", "Plan", "Resources", "SharedMount", "Transfer"]

FileType = Literal["FILE", "DIRECTORY"]
MissingOutputs = Literal["fail", "warn"]


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of scratch that every executor of the task sees at the same path.

    `path` is absolute and normalised. `type` FILE is one file mounted singly (an input in a directory that
    images fill themselves); `read_only` is set for those.
    """

    path: str
    type: FileType = "DIRECTORY"
    read_only: bool = False


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where something lies in a storage that the site shares with its clients.

    `storage` is that one's name; `path` is relative to its root, and empty for the root itself.
    """

    storage: str
    path: str


class SharedMount(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file or directory of a shared storage that every executor of the task sees at `path`.

    A directory that may be written in is made, for all users, if it is not there; what is read only is there already.
    """

    path: str
    place: Place
    type: FileType = "DIRECTORY"
    read_only: bool = False


class Transfer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input that executors find at `path`: from `url`, or from `content`."""

    path: str
    type: FileType
    url: str | None = None
    content: str | None = None
    name: str | None = None


class Delivery(msgspec.Struct, frozen=True, omit_defaults=True):
    """One output that leaves scratch for `url` after the last executor.

    `path` may hold wildcards (POSIX 1003.1-2017 2.13); then `path_prefix` is what is cut from each match and
    `url` a directory. `type` is what the client said, or None: found at run time (TES 1.1.0 `tesFileType`).
    `in_place`: executors write it where its URL says.
    """

    path: str
    url: str
    type: FileType | None = None
    path_prefix: str | None = None
    name: str | None = None
    in_place: bool = False


class ExecutorPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """One command. `command` is the whole argv: it replaces the image's entrypoint. Redirects are paths."""

    image: str
    command: tuple[str, ...]
    workdir: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    env: dict[str, str] = {}
    ignore_error: bool = False


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a task declared: cores (or a fraction), bytes of memory, bytes of scratch; None for nothing.

    TES gives gigabytes; 1 GB is 10^9 bytes (TES 1.1.0 `tesResources`).
    """

    cpu_cores: float | None = None
    ram_bytes: int | None = None
    disk_bytes: int | None = None
    preemptible: bool = False


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that one attempt at a task needs to know.

    `directories` are container paths that exist, empty, in scratch before stage-in: mounts, volumes, the
    directories of outputs, and workdirs that lie in a mount. `shared` is what executors see of shared storage: more
    mounts, of which some may lie in others, each after those above it; `shared_inputs` are those that need not be
    moved, `shared_directories` container paths that must be there in shared storage. `notes` are sentences for the
    user's `system_logs`, known before anything ran. `parameters` are the task's backend parameters that backend and
    controller act on, checked, by the name that the site gives them (`tesk.plan.site.Parameter`).
    """

    executors: tuple[ExecutorPlan, ...]
    mounts: tuple[Mount, ...] = ()
    directories: tuple[str, ...] = ()
    inputs: tuple[Transfer, ...] = ()
    outputs: tuple[Delivery, ...] = ()
    resources: Resources = Resources()
    missing_outputs: MissingOutputs = "fail"
    notes: tuple[str, ...] = ()
    parameters: dict[str, str] = {}
    shared: tuple[SharedMount, ...] = ()
    shared_inputs: tuple[Transfer, ...] = ()
    shared_directories: tuple[str, ...] = ()

    @property
    def seen(self) -> set[str]:
        """The paths of all mounts: where executors see what is the task's."""
        return {*(one.path for one in self.mounts), *(one.path for one in self.shared)}

    def in_place(self) -> Callable[[str], bool]:
        """Tells whether what executors write at a path lies in shared storage; else something else is seen there."""
        mounts = {one.path: False for one in self.mounts}
        mounts.update({one.path: not one.read_only for one in self.shared})
        return lambda path: mounts.get(nearest(path, mounts) or "", False)

    def to_json(self) -> str:
        """The plan as one line of JSON; fields that hold their default are left out."""
        return _ENCODER.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read what `to_json` wrote.

        Raises ValueError when `text` is not a plan.
        """
        try:
            return _DECODER.decode(text)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is not a plan: {error}") from error


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Plan)
