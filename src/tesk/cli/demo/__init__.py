"""`tesk demo`: a server, real tasks on real files, and a check of what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tesk.cli.faults import FAILED, CommandError

__all__ = ["demo"]


def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Leave everything in this new directory.", metavar="DIRECTORY")
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes the reads; another seed, another table.")] = 20250,
) -> None:
    """Run real tasks on a server here, and check them.

    Statistics of FASTQ files, scattered and gathered; one task that fails on purpose, one that is cancelled.
    """
    import tempfile
    import time

    from tesk.cli.demo.play import play
    from tesk.cli.screen import print_line, say

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tesk-demo-") as temporary:
        directory = Path(temporary).resolve()
        if keep is not None:
            directory = keep.resolve()
            try:
                directory.mkdir(parents=True)
            except FileExistsError as error:
                raise CommandError(f"{keep} exists already; --keep needs a new directory") from error
        wrong = play(directory, seed)
    for sentence in wrong:
        say(f"WRONG: {sentence}")
    if wrong:
        raise typer.Exit(FAILED)
    print_line(f"all is as it must be, after {time.monotonic() - began:.1f} s")
    if keep is not None:
        print_line(f"files, configuration and log are in {directory}")
