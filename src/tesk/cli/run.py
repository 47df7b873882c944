"""`tesk run`: commands as TES tasks, without a server or on one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesk.cli import complete
from tesk.cli.faults import FAILED, USAGE, CommandError
from tesk.cli.options import Profile

if TYPE_CHECKING:
    from tesk.cli.compose import Composed, Wanted
    from tesk.client import AsyncClient

__all__ = ["run"]


def _files(short: str, long: str, text: str) -> Any:
    return typer.Option(short, long, help=text, metavar="NAME=PATH|URL")


def run(
    ctx: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(
            help="The command, in quotes; - reads it and its options from standard input.", metavar="COMMAND"
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image", "--container", "-c", help="Container image; without one, the sandbox runs it.", metavar="IMAGE"
        ),
    ] = None,
    inputs: Annotated[list[str] | None, _files("-i", "--in", "A file; $NAME is its path.")] = None,
    input_directories: Annotated[list[str] | None, _files("-I", "--in-dir", "A directory to read.")] = None,
    outputs: Annotated[list[str] | None, _files("-o", "--out", "A file to write to $NAME.")] = None,
    output_directories: Annotated[list[str] | None, _files("-O", "--out-dir", "A directory to fill.")] = None,
    contents: Annotated[
        list[str] | None,
        typer.Option(
            "-C", "--content", "--contents", help="A small file that travels in the task.", metavar="NAME=PATH"
        ),
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
        list[str] | None,
        typer.Option("--volume", "--vol", help="An empty directory in the container.", metavar="PATH"),
    ] = None,
    cpu: Annotated[float | None, typer.Option(min=0, help="Cores.", metavar="CORES")] = None,
    ram: Annotated[float | None, typer.Option(min=0, help="Memory in gigabytes.", metavar="GB")] = None,
    disk: Annotated[float | None, typer.Option(min=0, help="Disk in gigabytes.", metavar="GB")] = None,
    zone: Annotated[list[str] | None, typer.Option(help="A zone where it may run.", metavar="ZONE")] = None,
    preemptible: Annotated[
        bool | None, typer.Option("--preemptible", help="It may run where it can be preempted.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="The task's name.", metavar="NAME")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.", metavar="TEXT")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag.", metavar="KEY=VALUE")] = None,
    shell: Annotated[
        bool | None,
        typer.Option("--sh/--exec", help="Run it by /bin/sh -c (as usual), or split into words and no shell."),
    ] = None,
    flags: Annotated[
        str | None, typer.Option(help="More options, read from this file as a shell would.", metavar="FILE")
    ] = None,
    scatter: Annotated[
        str | None,
        typer.Option(help="One task for each row of this file: options, or a table of them.", metavar="FILE"),
    ] = None,
    show: Annotated[bool, typer.Option("--print", "-p", help="Print the tasks as JSON and run nothing.")] = False,
    server: Annotated[
        str | None, typer.Option("--server", "-S", help="Run it on this TES server.", metavar="URL")
    ] = None,
    profile: Profile = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the end, or only print the ids of the tasks sent.")
    ] = True,
    wait_for: Annotated[
        list[str] | None,
        typer.Option(
            help="Send it once this task of the server is COMPLETE; may be given again.",
            metavar="ID",
            autocompletion=complete.unended_ids,
        ),
    ] = None,
) -> None:
    """Run a command as a task, here or on a server.

    tesk run 'wc -l < $in > $out' -i in=README.md -o out=n.txt

    Names of files become shell variables that hold their paths in the container. What the command writes is
    shown live; for more than a few megabytes of output, name a file with -o or --stdout. The exit code is the
    command's own.

    With --scatter there is a task for each row of a file, and the exit code is 1 if any did not COMPLETE.
    """
    from tesk.cli.compose import compose
    from tesk.cli.flags import wanted_from

    wanted = wanted_from(ctx.params)
    remote = server is not None or profile is not None
    _check(wanted, scatter, remote=remote, wait=wait, wait_for=wait_for, show=show)
    made = list(_rows(ctx.command, wanted, scatter)) if scatter else [(wanted.command or "", compose(wanted))]
    if remote and not show and any(one.task["executors"][0]["image"] == "sandbox" for _, one in made):
        raise CommandError("a server needs --image: which container should the command run in?", USAGE)
    if show:
        _print([one.task for _, one in made])
        return
    job = _Job(made, single=scatter is None, wait=wait, wait_for=_ids(wait_for))
    raise typer.Exit(job.on_server(server, profile) if remote else job.here(wanted.image))


def _check(
    wanted: Wanted, scatter: str | None, *, remote: bool, wait: bool, wait_for: list[str] | None, show: bool
) -> None:
    """Raise CommandError for options that cannot go together."""
    if wanted.command is None and scatter is None:
        raise CommandError("there is no command: tesk run 'COMMAND'; 'tesk run --help' shows more", USAGE)
    if not remote and not show:
        for option, given in (("--no-wait", not wait), ("--wait-for", bool(wait_for))):
            if given:
                raise CommandError(f"{option} needs a server: name one by --server or --profile", USAGE)


def _rows(command: Any, base: Wanted, file: str) -> Iterator[tuple[str, Composed]]:
    """The task of each row; raises CommandError with the faults of all rows when there are any."""
    from tesk.cli.compose import compose
    from tesk.cli.flags import rows_of, wanted_of_row

    faults: list[str] = []
    made: list[tuple[str, Composed]] = []
    for row in rows_of(file):
        try:
            wanted = base.extended(wanted_of_row(command, row))
        except CommandError as error:
            faults.append(str(error))
            continue
        try:
            made.append((row.place, compose(wanted)))
        except CommandError as error:
            faults.append(f"{row.place}: {error}")
    if faults:
        raise CommandError("\n".join([*faults, "nothing was sent"]), USAGE)
    return iter(made)


def _ids(given: list[str] | None) -> list[str]:
    return [one for each in given or () for one in each.split(",") if one]


def _print(tasks: list[dict[str, Any]]) -> None:
    import json

    for task in tasks:
        print(json.dumps(task, indent=2, ensure_ascii=False))


class _Job:
    """Composed tasks, and how they are to be run."""

    def __init__(self, made: list[tuple[str, Composed]], *, single: bool, wait: bool, wait_for: list[str]) -> None:
        self._made = made
        self._single = single
        self._wait = wait
        self._wait_for = wait_for
        self._unsaid: tuple[str, ...] = ()

    def on_server(self, server: str | None, profile: str | None) -> int:
        """Run them on a server; the exit code."""
        from tesk.cli.connect import connect_async
        from tesk.cli.follow import run_until_interrupted

        async def work() -> int:
            async with connect_async(server, profile) as client:
                await self._depend(client)
                return await (self._follow(client) if self._wait else self._send(client))

        return run_until_interrupted(work())

    def here(self, image: str | None) -> int:
        """Run them on this machine; the exit code."""
        from tesk.cli.follow import run_until_interrupted
        from tesk.cli.here import engine_of_images, run_here, sandbox_note

        images = {one.task["executors"][0]["image"] for _, one in self._made}
        if len(images) > 1 and "sandbox" in images:
            raise CommandError("some rows name an image and others do not: give all one, or none", USAGE)
        engine = "sandbox" if images == {"sandbox"} and image is None else engine_of_images()
        # who names no image is not told that none was used
        self._unsaid = (sandbox_note(),) if engine == "sandbox" else ()
        roots = {root for _, one in self._made for root in one.roots}
        return run_until_interrupted(run_here(roots, engine, Path.cwd(), self._follow))

    async def _depend(self, client: AsyncClient) -> None:
        """Wait for the tasks that ours depend on; raises CommandError when one does not COMPLETE."""
        states = await client.wait(self._wait_for)
        faults = [f"task {one} ended {state}" for one, state in states.items() if state != "COMPLETE"]
        if faults:
            raise CommandError("\n".join([*faults, "nothing was sent"]), FAILED)

    async def _follow(self, client: AsyncClient) -> int:
        from tesk.cli.follow import exit_code, run_to_end, tell_failure

        if self._single:
            task = await run_to_end(client, self._made[0][1].task)
            tell_failure(task, self._unsaid)
            return exit_code(task)
        from tesk.cli.many import Sent, run_all

        return await run_all(client, [Sent(place, one.task) for place, one in self._made], self._unsaid)

    async def _send(self, client: AsyncClient) -> int:
        from tesk.cli.many import Sent, send_all
        from tesk.cli.screen import print_line

        if self._single:
            print_line(await client.create(self._made[0][1].task))
            return 0
        ids = await send_all(client, [Sent(place, one.task) for place, one in self._made])
        for one in ids:
            if one is not None:
                print_line(one)
        return 0 if all(ids) else FAILED
