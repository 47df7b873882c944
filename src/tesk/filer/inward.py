"""Stage-in: what a plan's inputs name, from its URLs into scratch."""

from __future__ import annotations

import asyncio
import os
import posixpath
from dataclasses import dataclass
from pathlib import Path

from tesk.filer.pool import each
from tesk.filer.results import TransferError, bounded, sentence
from tesk.plan.model import Plan, Transfer
from tesk.storage.base import FileType
from tesk.storage.confine import Owner, Tree
from tesk.storage.errors import StorageError, reason, redact, shown
from tesk.storage.local import write_all
from tesk.storage.store import Storage
from tesk.storage.urls import join

__all__ = ["make_directories", "open_directories", "stage_in"]


@dataclass(frozen=True, slots=True)
class _Placement:
    """One file or directory that must be in scratch, and which input it belongs to."""

    transfer: Transfer
    type: FileType
    url: str | None


async def stage_in(plan: Plan, scratch: Path, storage: Storage, *, owner: Owner | None = None) -> int:
    """Bring every input of `plan` into `scratch`, each at its container path, and make the plan's
    directories.

    Where two inputs name the same file, the later one in the plan wins; directories merge. Files are readable
    for all (a program of this machine stays one) and, like directories made on the way, given to `owner`.
    Returns how many bytes that were. Raises TransferError with a sentence for each input that failed.
    """
    if not plan.directories and not plan.inputs:
        return 0
    await storage.workers.run(lambda _: make_directories(plan, scratch, owner=owner))
    faults: list[str] = []
    placements = await _placements(plan, storage, faults)
    tree = Tree(scratch)
    sizes: list[int] = []

    async def place(item: tuple[str, _Placement]) -> None:
        path, placement = item
        try:
            sizes.append(await _place(tree, path, placement, storage, owner))
        except StorageError as error:
            faults.append(_sentence(placement.transfer, str(error)))
        except OSError as error:
            faults.append(_sentence(placement.transfer, f"cannot write {shown(path)}: {reason(error)}"))

    await each(placements.items(), place, at_once=storage.options.parallelism)
    if faults:
        raise TransferError(bounded(faults))
    return sum(sizes)


def make_directories(plan: Plan, scratch: Path, *, owner: Owner | None = None) -> None:
    """Make the directories that `plan` wants in `scratch` before anything else; those that are there stay.

    Raises OSError when one cannot be made.
    """
    tree = Tree(scratch)
    for path in plan.directories:
        tree.make_directory(path, owner=owner)


def open_directories(scratch: Path) -> None:
    """Let every user write in the directories of `scratch`: which one an image's is, is not known before it runs."""
    for path, _, _ in os.walk(scratch):
        os.chmod(path, 0o777)


async def _placements(plan: Plan, storage: Storage, faults: list[str]) -> dict[str, _Placement]:
    """Every file and directory to place, by path; found in parallel, merged in the plan's order."""
    found: dict[int, dict[str, _Placement]] = {}

    async def look(item: tuple[int, Transfer]) -> None:
        number, transfer = item
        try:
            found[number] = await _resolve(transfer, storage)
        except StorageError as error:
            faults.append(_sentence(transfer, str(error)))

    await each(enumerate(plan.inputs), look, at_once=storage.options.parallelism)
    merged: dict[str, _Placement] = {}
    for number in sorted(found):
        merged.update(found[number])
    return {path: one for path, one in merged.items() if not _collides(path, one, merged, faults)}


def _collides(path: str, placement: _Placement, all_of_them: dict[str, _Placement], faults: list[str]) -> bool:
    """Whether a file stands where `path` needs a directory; then that is a fault."""
    above = path
    while (above := posixpath.dirname(above)) != "/":
        if above in all_of_them and all_of_them[above].type == "FILE":
            faults.append(
                _sentence(placement.transfer, f"it needs a directory at {shown(above)}, where another input is a file")
            )
            return True
    return False


async def _resolve(transfer: Transfer, storage: Storage) -> dict[str, _Placement]:
    path = "/" + posixpath.normpath(transfer.path).lstrip("/")
    if transfer.content is not None or transfer.type == "FILE":
        return {path: _Placement(transfer, "FILE", transfer.url)}
    url = transfer.url or ""
    placements = {path: _Placement(transfer, "DIRECTORY", None)}
    async for entry in storage.walk(url):
        if ".." in entry.path.split("/"):
            raise StorageError(f"{redact(url)} holds the name {shown(entry.path)}, which is refused")
        below = join(url, entry.path) if entry.type == "FILE" else None
        placements[f"{path.rstrip('/')}/{entry.path}"] = _Placement(transfer, entry.type, below)
    return placements


async def _place(tree: Tree, path: str, placement: _Placement, storage: Storage, owner: Owner | None) -> int:
    """Bring one file or directory; its bytes."""
    if placement.type == "DIRECTORY":
        await storage.workers.run(lambda _: tree.make_directory(path, owner=owner))
        return 0
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
    target = await _opened(storage, tree, path, flags, owner)
    try:
        executable = False
        content = placement.transfer.content
        if content is not None:
            encoded = content.encode("utf-8", "surrogatepass")
            await storage.workers.run(lambda _: write_all(target, encoded, 0))
            size = len(encoded)
        else:
            size, executable = await storage.fetch(placement.url or "", target)
        os.fchmod(target, 0o755 if executable else 0o644)
        if owner is not None:
            os.fchown(target, *owner)
    finally:
        os.close(target)
    return size


async def _opened(storage: Storage, tree: Tree, path: str, flags: int, owner: Owner | None) -> int:
    """A descriptor of the file at `path`, made in a thread; closed again if the caller is cancelled
    meanwhile.
    """
    made: list[int] = []
    try:
        await storage.workers.run(lambda _: made.append(tree.open(path, flags, 0o644, parents=0o755, owner=owner)))
    except asyncio.CancelledError:
        for one in made:
            os.close(one)
        raise
    return made[0]


def _sentence(transfer: Transfer, cause: str) -> str:
    return sentence("input", transfer, cause)
