"""`tesk demo`: a server, real tasks on real files, and a check of what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tesk.cli.faults import FAILED, USAGE, CommandError
from tesk.cli.options import Profile, Server

__all__ = ["demo"]


def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Leave everything in this new directory.", metavar="DIRECTORY")
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes the reads; another seed, another table.")] = 20250,
    server: Server = None,
    profile: Profile = None,
    files: Annotated[
        str | None,
        typer.Option(
            help="Where that server's tasks find and leave files, as s3://bucket/demo; they stay there.", metavar="URL"
        ),
    ] = None,
    image: Annotated[
        str, typer.Option(help="With sh, awk and sort, for tasks on that server.", metavar="IMAGE")
    ] = "alpine:3.20",
) -> None:
    """Run real tasks on a server here, or on one that is there already, and check them.

    Statistics of FASTQ files, scattered and gathered; one task that fails on purpose, one that is cancelled.
    """
    import tempfile
    import time

    from tesk.cli.screen import print_line, say

    elsewhere = server is not None or profile is not None
    if elsewhere != (files is not None):
        raise CommandError("give --files together with --server or --profile, or none of them", USAGE)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tesk-demo-") as temporary:
        directory = Path(temporary).resolve()
        if keep is not None:
            directory = keep.resolve()
            try:
                directory.mkdir(parents=True)
            except FileExistsError as error:
                raise CommandError(f"{keep} exists already; --keep needs a new directory") from error
        wrong = _play(directory, seed) if files is None else _play_at(directory, seed, server, profile, files, image)
    for sentence in wrong:
        say(f"WRONG: {sentence}")
    if wrong:
        raise typer.Exit(FAILED)
    print_line(f"all is as it must be, after {time.monotonic() - began:.1f} s")
    if keep is not None:
        print_line(f"{'files' if elsewhere else 'files, configuration and log'} are in {directory}")


def _play(directory: Path, seed: int) -> list[str]:
    from tesk.cli.demo.play import play

    return play(directory, seed)


def _play_at(directory: Path, seed: int, server: str | None, profile: str | None, files: str, image: str) -> list[str]:
    from tesk.cli.connect import connect
    from tesk.cli.demo.play import play_elsewhere

    with connect(server, profile) as client:
        return play_elsewhere(directory, seed, client, files, image)
