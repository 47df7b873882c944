"""All commands of `tesk`, in the order in which the help shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from tesk.cli import check, cleanup, completion, create, demo, kubernetes, listing, parts, profiles, run, serve, tasks
from tesk.cli.flags import FlagsCommand

__all__ = ["app"]

_EPILOG = "Exit codes: 0 done, 1 a task or an operation failed, 2 wrong usage, 3 no server answers, 130 interrupted."

app = typer.Typer(
    name="tesk",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help takes 0.2 s to import
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from tesk import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def tesk(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run GA4GH TES tasks: a server, a client, and one command without either."""


completion.use_our_scripts()
app.command(cls=FlagsCommand)(run.run)
app.command()(demo.demo)
app.command()(serve.serve)
app.command()(check.check)
app.command()(cleanup.cleanup)
app.add_typer(serve.config_app, name="config")
app.add_typer(kubernetes.kubernetes_app, name="kubernetes")
for command in (create.create, tasks.get, listing.list_, tasks.cancel, tasks.wait, tasks.logs, profiles.profiles):
    app.command(name=command.__name__.rstrip("_"))(command)
app.command()(completion.completion)
app.command(hidden=True)(parts.taskmaster)
app.command(hidden=True)(parts.filer)
