"""`tesk run`: one command as a TES task, without a server or on one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesk.cli.faults import USAGE, CommandError

if TYPE_CHECKING:
    from tesk.cli.compose import Composed
    from tesk.client import Task

__all__ = ["run"]


def _files(short: str, long: str, text: str) -> Any:
    return typer.Option(short, long, help=text, metavar="NAME=PATH|URL")


def run(
    command: Annotated[str, typer.Argument(help="The command, in quotes.", metavar="COMMAND")],
    image: Annotated[
        str | None,
        typer.Option("--image", "-c", help="Container image; without one, the sandbox runs it.", metavar="IMAGE"),
    ] = None,
    inputs: Annotated[list[str] | None, _files("-i", "--in", "A file; $NAME is its path.")] = None,
    input_directories: Annotated[list[str] | None, _files("-I", "--in-dir", "A directory to read.")] = None,
    outputs: Annotated[list[str] | None, _files("-o", "--out", "A file to write to $NAME.")] = None,
    output_directories: Annotated[list[str] | None, _files("-O", "--out-dir", "A directory to fill.")] = None,
    contents: Annotated[
        list[str] | None,
        typer.Option("-C", "--content", help="A small file that travels in the task.", metavar="NAME=PATH"),
    ] = None,
    stdin: Annotated[str | None, typer.Option(help="Standard input from this file.", metavar="PATH|URL")] = None,
    stdout: Annotated[
        str | None, typer.Option(help="Standard output, whole, to this file.", metavar="PATH|URL")
    ] = None,
    stderr: Annotated[str | None, typer.Option(help="Standard error to this file.", metavar="PATH|URL")] = None,
    env: Annotated[
        list[str] | None, typer.Option("-e", "--env", help="An environment variable.", metavar="KEY=VALUE")
    ] = None,
    workdir: Annotated[
        str | None, typer.Option("-w", "--workdir", help="Directory to start in.", metavar="PATH")
    ] = None,
    volume: Annotated[
        list[str] | None, typer.Option(help="An empty directory in the container.", metavar="PATH")
    ] = None,
    cpu: Annotated[float | None, typer.Option(min=0, help="Cores.", metavar="CORES")] = None,
    ram: Annotated[float | None, typer.Option(min=0, help="Memory in gigabytes.", metavar="GB")] = None,
    disk: Annotated[float | None, typer.Option(min=0, help="Disk in gigabytes.", metavar="GB")] = None,
    name: Annotated[str | None, typer.Option(help="The task's name.", metavar="NAME")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag.", metavar="KEY=VALUE")] = None,
    shell: Annotated[
        bool, typer.Option("--sh/--exec", help="Run it by /bin/sh -c, or split into words and no shell.")
    ] = True,
    show: Annotated[bool, typer.Option("--print", help="Print the task as JSON and run nothing.")] = False,
    server: Annotated[
        str | None, typer.Option(help="Run it on this TES server and wait for it.", metavar="URL")
    ] = None,
) -> None:
    """Run one command as a task, here or on a server.

    tesk run 'wc -l < $in > $out' -i in=README.md -o out=n.txt

    Names of files become shell variables that hold their paths in the container. What the command writes is
    shown live; for more than a few megabytes of output, name a file with -o or --stdout.
    """
    from tesk.cli.compose import Wanted, compose

    if server is not None and image is None and not show:
        raise CommandError("a server needs --image: which container should the command run in?", USAGE)
    composed = compose(
        Wanted(
            command,
            shell=shell,
            image=image or "sandbox",
            name=name,
            inputs=tuple(inputs or ()),
            input_directories=tuple(input_directories or ()),
            outputs=tuple(outputs or ()),
            output_directories=tuple(output_directories or ()),
            contents=tuple(contents or ()),
            env=tuple(env or ()),
            tags=tuple(tag or ()),
            volumes=tuple(volume or ()),
            workdir=workdir,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cpu_cores=cpu,
            ram_gb=ram,
            disk_gb=disk,
        )
    )
    if show:
        import json

        print(json.dumps(composed.task, indent=2, ensure_ascii=False))
        return
    task, unsaid = _on_server(server, composed) if server else _here(composed, image)
    from tesk.cli.follow import exit_code, tell_failure

    tell_failure(task, unsaid)
    raise typer.Exit(exit_code(task))


def _on_server(url: str, composed: Composed) -> tuple[Task, tuple[str, ...]]:
    from tesk.cli.follow import run_to_end, run_until_interrupted
    from tesk.client import AsyncClient

    async def work() -> Task:
        async with AsyncClient(url) as client:
            return await run_to_end(client, composed.task)

    return run_until_interrupted(work()), ()


def _here(composed: Composed, image: str | None) -> tuple[Task, tuple[str, ...]]:
    from tesk.cli.follow import run_until_interrupted
    from tesk.cli.here import run_here, sandbox_note

    # who names no image is not told that none was used
    unsaid = () if image else (sandbox_note(),)
    return run_until_interrupted(run_here(composed, "podman" if image else "sandbox", Path.cwd())), unsaid
