"""Stage-out: what a plan's outputs name, from scratch to its URLs."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tesk.filer.pool import each
from tesk.filer.results import Delivered, StageOut, bounded, sentence
from tesk.filer.shared import view_of
from tesk.plan.model import Delivery, Plan
from tesk.storage.base import FileType, Source
from tesk.storage.confine import Tree
from tesk.storage.errors import StorageError, reason, shown
from tesk.storage.globs import Fault, Skipped, expand, walk
from tesk.storage.store import Storage
from tesk.storage.urls import join
from tesk.tes.wildcards import fixed_directory, has_wildcards

__all__ = ["stage_out"]


@dataclass(frozen=True, slots=True)
class _Departure:
    """One file, or one directory to be made, and which output it belongs to."""

    delivery: Delivery
    path: str
    url: str
    type: FileType


@dataclass(slots=True)
class _Findings:
    departures: dict[str, _Departure] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def stage_out(plan: Plan, scratch: Path | None, storage: Storage) -> StageOut:
    """Deliver every output of `plan` from `scratch` and from shared storage to its URL; what is in its place is only
    looked at.

    Symlinks are followed as the container would, within the task's files: one that leads out of them is a failure,
    never a file of this machine. Nothing is raised for an output that is missing or refused; the answer says so in
    sentences.
    """
    if not plan.outputs:
        return StageOut()
    tree = view_of(plan, scratch, storage.options.shared_roots)
    findings = await storage.workers.run(lambda _: _look(plan, tree))
    sizes: dict[str, int] = {}
    copied = 0
    in_place = plan.in_place()

    async def depart(one: _Departure) -> None:
        nonlocal copied
        try:
            if one.delivery.in_place and in_place(one.path):
                if one.type == "FILE":
                    sizes[one.url] = (await storage.workers.run(lambda _: tree.stat(one.path))).st_size
            elif one.type == "DIRECTORY":
                await storage.make_directory(one.url)
            else:
                sizes[one.url] = size = await _deliver(tree, one, storage)
                copied += size
        except StorageError as error:
            findings.failed.append(_sentence(one.delivery, str(error)))
        except OSError as error:
            findings.failed.append(_sentence(one.delivery, f"{shown(one.path)} cannot be read: {reason(error)}"))

    await each(findings.departures.values(), depart, at_once=storage.options.parallelism)
    return StageOut(
        delivered=tuple(
            Delivered(one.url, one.path, sizes[one.url]) for one in findings.departures.values() if one.url in sizes
        ),
        missing=bounded(findings.missing),
        failed=bounded(findings.failed),
        notes=bounded(findings.notes),
        directories=tuple(
            one.path
            for one in findings.departures.values()
            if one.type == "DIRECTORY" and one.delivery.type is None and one.path == one.delivery.path
        ),
        copied=copied,
    )


def _look(plan: Plan, tree: Tree) -> _Findings:
    """What there is to deliver, in the plan's order; of two things for one URL the later one."""
    findings = _Findings()
    for delivery in plan.outputs:
        if has_wildcards(delivery.path):
            _look_for_matches(delivery, tree, findings)
        else:
            _look_at(delivery, delivery.path, delivery.url, tree, findings)
    return findings


def _look_for_matches(delivery: Delivery, tree: Tree, findings: _Findings) -> None:
    try:
        matches = expand(tree, delivery.path)
    except OSError as error:
        cause = f"cannot look for files that match: {reason(error)}"
        findings.failed.append(_sentence(delivery, cause))
        return
    if not matches:
        findings.missing.append(_sentence(delivery, "nothing matches"))
    prefix = delivery.path_prefix if delivery.path_prefix is not None else fixed_directory(delivery.path)
    for path in matches:
        if not path.startswith(prefix):
            cause = f"{shown(path)} does not begin with the path_prefix {shown(prefix)}"
            findings.failed.append(_sentence(delivery, cause))
            continue
        pruned = path[len(prefix) :].lstrip("/") or path.rpartition("/")[2]
        _look_at(delivery, path, join(delivery.url, pruned), tree, findings)


def _look_at(delivery: Delivery, path: str, url: str, tree: Tree, findings: _Findings) -> None:
    """One output path, or one match of a pattern."""
    try:
        mode = tree.stat(path).st_mode
        kind = _type(mode)
        if kind is None:
            cause = f"{shown(path)} is neither a file nor a directory"
            findings.failed.append(_sentence(delivery, cause))
        elif delivery.type not in (None, kind) and not has_wildcards(delivery.path):
            cause = f"{shown(path)} is a {_word(kind)}, and the output's type is {delivery.type}"
            findings.failed.append(_sentence(delivery, cause))
        elif kind == "FILE":
            _note(_Departure(delivery, path, url, "FILE"), findings)
        else:
            _look_below(delivery, path, url, tree, findings)
    except (FileNotFoundError, NotADirectoryError):
        findings.missing.append(_sentence(delivery, _absence(tree, path)))
    except OSError as error:
        findings.failed.append(_sentence(delivery, f"{shown(path)} cannot be read: {reason(error)}"))


def _look_below(delivery: Delivery, path: str, url: str, tree: Tree, findings: _Findings) -> None:
    _note(_Departure(delivery, path, url, "DIRECTORY"), findings)
    for one in walk(tree, path):
        if isinstance(one, Fault):
            findings.failed.append(_sentence(delivery, one.sentence))
        elif isinstance(one, Skipped):
            cause = f"{shown(one.path)} is neither a file nor a directory and was left out"
            findings.notes.append(_sentence(delivery, cause))
        else:
            _note(_Departure(delivery, one.path, join(url, one.relative), one.type), findings)


def _note(departure: _Departure, findings: _Findings) -> None:
    try:
        departure.path.encode()
    except UnicodeEncodeError:
        cause = f"the name {shown(departure.path)} is not UTF-8, so no task log could hold it"
        findings.failed.append(_sentence(departure.delivery, cause))
        return
    findings.departures.pop(departure.url, None)
    findings.departures[departure.url] = departure


def _absence(tree: Tree, path: str) -> str:
    try:
        link = stat.S_ISLNK(tree.stat(path, follow=False).st_mode)
    except OSError:
        link = False
    return "it is a symlink to something that is not in the task's files" if link else "it does not exist"


async def _deliver(tree: Tree, one: _Departure, storage: Storage) -> int:
    opened: list[int] = []
    try:
        await storage.workers.run(lambda _: opened.append(tree.open(one.path)))
        status = os.fstat(opened[0])
        source = Source(opened[0], status.st_size, bool(status.st_mode & 0o111))
        await storage.deliver(source, one.url)
        return source.size
    finally:
        for fd in opened:
            os.close(fd)


def _type(mode: int) -> FileType | None:
    if stat.S_ISDIR(mode):
        return "DIRECTORY"
    return "FILE" if stat.S_ISREG(mode) else None


def _word(kind: FileType) -> str:
    return kind.lower()


def _sentence(delivery: Delivery, cause: str) -> str:
    return sentence("output", delivery, cause)
