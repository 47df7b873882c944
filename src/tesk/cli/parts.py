"""The two programs that a backend sends to where a task runs: taskmaster and filer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesk.cli.faults import FAILED, CommandError

if TYPE_CHECKING:
    from tesk.filer.program import Phase

__all__ = ["filer", "taskmaster"]

PlanFile = Annotated[str, typer.Argument(help="The task's plan as JSON; - is standard input.", metavar="PLAN.json")]


def filer(
    plan: PlanFile,
    scratch: Annotated[Path, typer.Option(help="The attempt's scratch tree.")],
    inward: Annotated[bool, typer.Option("--in", help="Bring the inputs into scratch.")] = False,
    outward: Annotated[bool, typer.Option("--out", help="Deliver the outputs.")] = False,
    file_root: Annotated[
        list[Path] | None, typer.Option(help="Directory below which files may be named; may be given again.")
    ] = None,
) -> None:
    """Move a plan's files between URLs and scratch; without --in and --out, both."""
    from tesk.filer.program import main
    from tesk.storage.options import StorageOptions

    phase: Phase = "both" if inward == outward else "in" if inward else "out"
    options = StorageOptions.from_environment(file_roots=[str(one.resolve()) for one in file_root or ()])
    raise typer.Exit(main(plan, str(scratch), phase, options=options))


def taskmaster(plan: PlanFile) -> None:
    """Run one attempt at a plan, step by step."""
    try:
        from tesk.taskmaster.program import main  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise CommandError("the taskmaster does not run by itself in this version of tesk", FAILED) from error
    raise typer.Exit(main(plan))
