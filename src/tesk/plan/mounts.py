"""What becomes a mount: one rule for every backend (docs/architecture.md, "What becomes a mount")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from tesk.plan.model import Mount
from tesk.plan.paths import nearest, parent, upwards
from tesk.plan.reasons import Faults
from tesk.plan.sharing import Sharing

__all__ = ["FILLED", "KERNEL", "Claim", "Layout", "lay_out"]

FILLED = frozenset(
    {
        "/",
        "/bin",
        "/boot",
        "/etc",
        "/etc/ssl",
        "/etc/ssl/certs",
        "/home",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
    }
    | {"/opt", "/opt/conda", "/opt/conda/bin", "/root", "/run", "/sbin", "/usr", "/usr/bin", "/usr/games"}
    | {"/usr/include", "/usr/lib", "/usr/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib32"}
    | {"/usr/lib64", "/usr/libexec", "/usr/libx32", "/usr/local", "/usr/local/bin", "/usr/local/etc"}
    | {"/usr/local/include", "/usr/local/lib", "/usr/local/lib64", "/usr/local/sbin", "/usr/local/share"}
    | {"/usr/sbin", "/usr/share", "/usr/src", "/var", "/var/lib", "/var/run"}
    | {"/lib/aarch64-linux-gnu", "/lib/x86_64-linux-gnu"}
)
"""Directories that images fill themselves: a mount over one of these exact names would hide their files."""

KERNEL = ("/dev", "/proc", "/sys")
"""What the container's kernel and engine provide; nothing of a task can lie in them."""

_IN_KERNEL = re.compile(f"(?:{'|'.join(KERNEL)})(?:/|\\Z)")


class Claim(msgspec.Struct):
    """One path that the task needs to be shared by its executors.

    `where` is its JSON path, for reasons. `type` None is an output that may turn out to be either.
    `make`: its directory is there before stage-in. `brought`: it is an input, so that a file may be mounted by itself.
    `directory` is the one that shows this path: itself, or the one it lies in.
    """

    path: str
    type: Literal["FILE", "DIRECTORY"] | None
    where: str
    make: bool = False
    brought: bool = False
    directory: str = ""

    def __post_init__(self) -> None:
        self.directory = self.path if self.type == "DIRECTORY" else parent(self.path)


@dataclass(frozen=True, slots=True)
class Layout:
    """What every executor sees of scratch (`mounts`), and what must be there, empty, before stage-in (`directories`).

    `shared_directories` must be there in shared storage.
    """

    mounts: tuple[Mount, ...]
    directories: tuple[str, ...]
    shared_directories: tuple[str, ...] = ()


def lay_out(
    claims: Sequence[Claim], workdirs: Sequence[tuple[str, str]], faults: Faults, sharing: Sharing | None = None
) -> Layout:
    """The mounts and directories for `claims`, with what contradicts itself or cannot be mounted in `faults`.

    `workdirs` are pairs of path and JSON path: no mounts by themselves, but there when they lie in one. What `sharing`
    shows of inputs, and what lies where it lets executors write, needs no scratch.
    """
    sharing = sharing or Sharing()
    claims = _settled(claims, [path for path, _ in workdirs])
    _find_conflicts(claims, workdirs, faults)
    seen = {one.path for one in sharing.inputs}
    directories: set[str] = set()
    singles: dict[str, Mount] = {}
    nested: dict[str, Mount] = {}
    made: set[str] = set()
    made_shared: set[str] = set()
    for claim in claims:
        refusal = _refusal(claim)
        if refusal:
            faults.add(claim.where, refusal)
        elif claim.brought and claim.path in seen:
            continue
        elif sharing.around(claim.path) is not None:
            if claim.brought:  # in scratch, and seen in the midst of what is shared
                nested[claim.path] = Mount(claim.path, claim.type or "FILE")
            elif claim.make:
                made_shared.add(claim.directory)
        elif claim.directory in FILLED:
            singles[claim.path] = Mount(claim.path, "FILE", read_only=True)
        else:
            directories.add(claim.directory)
            if claim.make:
                made.add(claim.directory)
    roots = _outermost(directories)
    made_shared.update(path for path, _ in workdirs if sharing.around(path) is not None)
    inside = {path for path, _ in workdirs if path not in made_shared and any(up in roots for up in upwards(path))}
    mounts = [*(Mount(path) for path in roots), *singles.values(), *nested.values()]
    made.update(path for path, one in nested.items() if one.type == "DIRECTORY")
    return Layout(
        mounts=tuple(sorted(mounts, key=lambda mount: mount.path)),
        directories=tuple(sorted(made | inside | roots)),
        shared_directories=tuple(sorted(made_shared)),
    )


def _settled(claims: Sequence[Claim], workdirs: Iterable[str]) -> list[Claim]:
    """`claims`, where an output of unknown type is a directory if anything else makes its path one."""
    if all(claim.type for claim in claims):
        return list(claims)
    known = {up for claim in claims for up in upwards(claim.directory)}
    known.update(up for path in workdirs for up in upwards(path))
    return [
        msgspec.structs.replace(claim, type="DIRECTORY") if not claim.type and claim.path in known else claim
        for claim in claims
    ]


def _refusal(claim: Claim) -> str | None:
    """Why nothing can be mounted for `claim`, or None."""
    if _IN_KERNEL.match(claim.path):
        return f"'{claim.path}' lies where the kernel keeps its own files ({', '.join(KERNEL)}); {_better(claim)}"
    if claim.directory not in FILLED:
        return None
    if claim.type == "DIRECTORY":
        return f"'{claim.path}' is a directory that images fill themselves; {_better(claim)}"
    if not claim.brought:
        unless = "" if claim.type else "; if it is a directory, say so with type DIRECTORY"
        return f"'{claim.path}' lies in '{claim.directory}', which images fill themselves; {_better(claim)}{unless}"
    return None


def _better(claim: Claim) -> str:
    return f"use another path, such as '/data/{claim.path.rpartition('/')[2] or 'work'}'"


def _find_conflicts(claims: Sequence[Claim], workdirs: Sequence[tuple[str, str]], faults: Faults) -> None:
    """Note each path that needs a directory where the task has a file."""
    files = {claim.path: claim.where for claim in reversed(claims) if claim.type == "FILE"}
    if not files:
        return
    needed = [(claim.directory, claim.path, claim.where) for claim in claims]
    needed += [(path, path, where) for path, where in workdirs]
    blocking_of = {one: nearest(one, files) for one in {one[0] for one in needed}}
    for directory, path, where in needed:
        blocking = blocking_of[directory]
        if blocking is None:
            continue
        other = files[blocking].removeprefix("$.")
        relation = "is" if blocking == path else f"lies in '{blocking}', which is"
        faults.add(where, f"'{path}' {relation} a file according to {other}; give one of them another path")


def _outermost(directories: set[str]) -> set[str]:
    """Those of `directories` that lie in no other, by component."""
    return {one for one in directories if not any(up in directories for up in upwards(parent(one)))}
