"""The filer as a program: a plan in, one JSON line for each result out."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

from tesk.filer.inward import stage_in
from tesk.filer.outward import stage_out
from tesk.filer.results import TransferError
from tesk.plan.model import Plan
from tesk.storage.options import StorageOptions
from tesk.storage.store import Storage

__all__ = ["Phase", "main"]

Phase = Literal["in", "out", "both"]


def main(
    plan_path: str,
    scratch: str,
    phase: Phase = "both",
    *,
    options: StorageOptions | None = None,
    out: TextIO | None = None,
) -> int:
    """Run the transfers of the plan in the file `plan_path` (`-` is standard input) and return the exit code.

    Prints one JSON object a line: `{"delivered": {...}}`, `{"missing": sentence}`, `{"failed": sentence}`,
    `{"note": sentence}`, and `{"staged_in": count}`. The code is 0 when nothing failed and nothing was
    missing (or the plan's `missing_outputs` is `warn`), else 1. Without `options`, storage credentials come
    from the environment and no file paths are allowed.
    """
    printed = out or sys.stdout
    code = 0
    for line, fine in _results(plan_path, Path(scratch), phase, options):
        print(json.dumps(line, ensure_ascii=False), file=printed, flush=True)
        code = code if fine else 1
    return code


def _results(
    plan_path: str, scratch: Path, phase: Phase, options: StorageOptions | None
) -> Iterator[tuple[dict[str, Any], bool]]:
    try:
        text = sys.stdin.buffer.read() if plan_path == "-" else Path(plan_path).read_bytes()
        plan = Plan.from_json(text)
        chosen = options or StorageOptions.from_environment()
        if not scratch.is_dir():
            raise ValueError(f"the scratch directory {scratch} does not exist")
    except (OSError, ValueError) as error:
        yield {"failed": str(error)}, False
        return
    yield from asyncio.run(_run(plan, scratch, phase, chosen))


async def _run(plan: Plan, scratch: Path, phase: Phase, options: StorageOptions) -> list[tuple[dict[str, Any], bool]]:
    lines: list[tuple[dict[str, Any], bool]] = []
    async with Storage(options) as storage:
        if phase in ("in", "both"):
            try:
                await stage_in(plan, scratch, storage)
            except TransferError as error:
                return [({"failed": one}, False) for one in error.sentences]
            lines.append(({"staged_in": len(plan.inputs)}, True))
        if phase in ("out", "both"):
            ended = await stage_out(plan, scratch, storage)
            lines += [
                ({"delivered": {"url": one.url, "path": one.path, "size_bytes": one.size_bytes}}, True)
                for one in ended.delivered
            ]
            lines += [({"missing": one}, plan.missing_outputs == "warn") for one in ended.missing]
            lines += [({"failed": one}, False) for one in ended.failed]
            lines += [({"note": one}, True) for one in ended.notes]
    return lines
