"""The two programs that a backend sends to where a task runs: taskmaster and filer, here for whoever tries a plan.

In the pods of a cluster they are `tesk.cli.pod`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesk.cli.faults import FAILED, CommandError

if TYPE_CHECKING:
    from tesk.filer.program import Phase
    from tesk.plan.model import Plan
    from tesk.storage.options import StorageOptions

__all__ = ["filer", "taskmaster"]

PlanFile = Annotated[str, typer.Argument(help="The task's plan as JSON; - is standard input.", metavar="PLAN.json")]

FileRoots = Annotated[
    list[Path] | None, typer.Option(help="Directory below which files may be named; may be given again.")
]


def filer(
    plan: PlanFile,
    scratch: Annotated[Path, typer.Option(help="The attempt's scratch tree.")],
    inward: Annotated[bool, typer.Option("--in", help="Bring the inputs into scratch.")] = False,
    outward: Annotated[bool, typer.Option("--out", help="Deliver the outputs.")] = False,
    file_root: FileRoots = None,
) -> None:
    """Move a plan's files between URLs and scratch; without --in and --out, both."""
    from tesk.filer.program import main
    from tesk.storage.options import StorageOptions

    phase: Phase = "both" if inward == outward else "in" if inward else "out"
    options = StorageOptions.from_environment(file_roots=[str(one.resolve()) for one in file_root or ()])
    raise typer.Exit(main(plan, str(scratch), phase, options=options))


def taskmaster(
    plan: PlanFile,
    engine: Annotated[str, typer.Option(help="What runs executors (local.engine).")] = "auto",
    file_root: FileRoots = None,
) -> None:
    """Run one attempt at a plan here, step by step; each report is a line of JSON."""
    import asyncio
    import sys

    from tesk.plan.model import Plan
    from tesk.storage.options import StorageOptions

    try:
        text = sys.stdin.read() if plan == "-" else Path(plan).read_text(encoding="utf-8")
        read = Plan.from_json(text)
    except (OSError, ValueError) as error:
        raise CommandError(f"{plan}: {error}", FAILED) from error
    options = StorageOptions.from_environment(file_roots=[str(one.resolve()) for one in file_root or ()])
    raise typer.Exit(asyncio.run(_attempt(read, engine, options)))


async def _attempt(plan: Plan, engine: str, storage_options: StorageOptions) -> int:
    """Run `plan` as attempt 1 on the local backend, in a state directory of its own; the exit code."""
    import asyncio
    import tempfile
    from typing import Any, cast

    from tesk.backends.base import Attempt, AttemptKey
    from tesk.backends.local.backend import LocalBackend, LocalOptions
    from tesk.storage import Storage
    from tesk.taskmaster.report import Report

    ended: asyncio.Future[Report] = asyncio.get_running_loop().create_future()

    def told(_: AttemptKey, report: Report) -> None:
        typer.echo(report.to_json())
        if report.state.terminal and not ended.done():
            ended.set_result(report)

    with tempfile.TemporaryDirectory(prefix="tesk-taskmaster-") as directory:
        async with Storage(storage_options) as storage:
            backend = LocalBackend(LocalOptions(Path(directory), cast(Any, engine)), storage)
            await backend.start(told, lambda: None)
            try:
                if not await backend.offer(Attempt(AttemptKey("task", 1), plan)):
                    raise CommandError("the plan asks for more than this machine has", FAILED)
                report = await ended
            finally:
                await backend.stop()
    return 0 if report.state == "COMPLETE" else FAILED
