"""`tesk serve`, and `tesk config` to see and check what it would use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tesk.cli.lean import importing
from tesk.cli.options import AsJson, ConfigFile

__all__ = ["config_app", "serve"]

config_app = typer.Typer(help="See and check the configuration.", no_args_is_help=True, rich_markup_mode=None)


def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (server.host).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one (server.port).")
    ] = None,
    state_directory: Annotated[
        Path | None, typer.Option(help="Where to keep what must survive a restart (state_directory).")
    ] = None,
    file_root: Annotated[
        list[Path] | None,
        typer.Option(help="Directory below which tasks may name files; may be given again (storage.file_roots)."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="What runs executors: auto, podman, docker, apptainer, sandbox (local.engine).")
    ] = None,
    allow_unauthenticated: Annotated[
        bool,
        typer.Option(
            "--allow-unauthenticated",
            help="Let everybody who can reach the address run tasks (server.allow_unauthenticated).",
        ),
    ] = False,
) -> None:
    """Run a TES server. Every option overrides a key of the configuration."""
    import os

    from tesk.cli.screen import say

    with importing():
        from tesk.config import Source
        from tesk.server.listen import listeners
        from tesk.server.reload import Reloader

    overrides: dict[str, Any] = {
        "server.host": host,
        "server.port": port,
        "state_directory": None if state_directory is None else str(state_directory.absolute()),
        "storage.file_roots": [str(one.absolute()) for one in file_root] if file_root else None,
        "local.engine": engine,
        "server.allow_unauthenticated": allow_unauthenticated or None,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    source = Source(config, os.environ, given)
    loaded = source.load()
    for warning in loaded.warnings:
        say(warning)
    # what else is imported takes most of a start; whoever comes meanwhile waits, and is not refused
    with listeners(loaded.config.server, os.environ) as listening:
        with importing():
            from tesk.server.service import run_server
        run_server(loaded.config, reloader=Reloader(source, loaded), listening=listening)


@config_app.command()
def show(config: ConfigFile = None, json: AsJson = False) -> None:
    """Print every key with its value, what it is for and where the value is from."""
    import os

    from tesk.cli.screen import print_json, say
    from tesk.config import load_with_sources, to_yaml

    loaded = load_with_sources(config, os.environ)
    for warning in loaded.warnings:
        say(warning)
    if json:
        print_json(loaded.config.model_dump(mode="json"))
    else:
        print(to_yaml(loaded), end="")


@config_app.command(name="check")
def check_config(config: ConfigFile = None) -> None:
    """Say what is wrong with the configuration; exit code 2 if it cannot be used."""
    import os

    from tesk.cli.screen import print_line, say
    from tesk.config import load_with_sources

    loaded = load_with_sources(config, os.environ)
    for warning in loaded.warnings:
        say(warning)
    print_line(f"ok: {loaded.file or 'no configuration file: the defaults and the environment hold'}")
