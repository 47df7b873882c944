"""`tesk cleanup`: old workflow directories of a shared storage."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tesk.cli.faults import FAILED, USAGE, CommandError
from tesk.cli.options import ConfigFile

__all__ = ["cleanup"]

_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([hdw])", text)
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"'{text}' is no age; write 12h, 30d or 8w")
    return int(found[1]) * _UNITS[found[2]]


def cleanup(
    storage: Annotated[str, typer.Argument(help="Name of a shared storage (storage.shared).")],
    pattern: Annotated[
        str, typer.Argument(help="Which directories, from its root: 'cromwell-executions/*/*'.", metavar="PATTERN")
    ],
    older_than: Annotated[
        str, typer.Option(help="Only those in which nothing has changed for so long: 12h, 30d, 8w.", metavar="AGE")
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Remove them; else they are only listed.")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where the storage lies here, if the configuration does not say it.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """List old directories of a shared storage, or remove them.

    Exit code 1 if some could not be looked at or removed.
    """
    from tesk.storage.errors import reason
    from tesk.storage.housekeeping import find_old, remove_old

    root = directory or _directory(storage, config)
    now = time.time()
    found = freed = 0
    failed = False
    try:
        for one in find_old(root, pattern, now - _seconds(older_than)):
            try:
                if remove:
                    remove_old(root, one)
            except OSError as error:
                print(f"{one.path} cannot be removed: {reason(error)}", file=sys.stderr)
                failed = True
                continue
            found, freed = found + 1, freed + one.size_bytes
            print(f"{(now - one.changed) / _UNITS['d']:7.1f} d {one.size_bytes / 1e9:10.3f} GB  {one.path}")
    except OSError as error:
        print(f"{root} cannot be looked through: {reason(error)}", file=sys.stderr)
        failed = True
    done = "removed" if remove else "would be removed with --remove"
    print(f"{found} director{'y' if found == 1 else 'ies'}, {freed / 1e9:.3f} GB, {done}")
    if failed:
        raise typer.Exit(FAILED)


def _directory(storage: str, config: Path | None) -> Path:
    from tesk.config import load

    shared = {one.name: one for one in load(config, os.environ).shared.values()}
    if storage not in shared:
        known = ", ".join(sorted(shared)) or "none"
        raise CommandError(f"There is no shared storage '{storage}' in the configuration (known: {known}).", USAGE)
    place = shared[storage].directory
    if place is None:
        raise CommandError(f"The configuration does not say where '{storage}' lies here; give --directory.", USAGE)
    return Path(place)
