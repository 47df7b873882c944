"""`tesk kubernetes`: what an operator of a cluster needs."""

from __future__ import annotations

from typing import Annotated

import typer

from tesk.cli.faults import USAGE, CommandError

__all__ = ["kubernetes_app"]

kubernetes_app = typer.Typer(help="Install TESK on Kubernetes.", no_args_is_help=True, rich_markup_mode=None)


@kubernetes_app.callback()
def kubernetes() -> None:
    """Install TESK on Kubernetes."""


@kubernetes_app.command()
def manifests(
    image: Annotated[str, typer.Option(help="TESK's own image, as the cluster pulls it.", metavar="IMAGE")],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The namespace of the server and its tasks.")
    ] = "tesk",
    name: Annotated[str, typer.Option(help="The server's name, with which all its objects begin.")] = "tesk",
    run_as_user: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The user id of TESK's own containers, if not the image's; 0 where only root can write volumes.",
            metavar="UID",
        ),
    ] = None,
    create_namespace: Annotated[
        bool, typer.Option("--create-namespace", help="Begin with the namespace itself.")
    ] = False,
) -> None:
    """Print the objects that install TESK, as YAML for `kubectl apply -f -`."""
    from tesk.backends.kubernetes.manifests import USER, Installation, make_manifests, to_yaml

    try:
        installation = Installation(image, namespace, name, USER if run_as_user is None else run_as_user)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    typer.echo(to_yaml(make_manifests(installation, make_namespace=create_namespace)), nl=False)
    typer.echo(
        f"Nobody has to prove who they are: pods of the namespace '{namespace}' that belong to no task reach the server"
        " (where the cluster enforces a NetworkPolicy; elsewhere every pod does), and may run tasks there.",
        err=True,
    )
