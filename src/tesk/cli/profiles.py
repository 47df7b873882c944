"""`tesk profiles`: which servers the file of profiles names, and which one counts now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tesk.cli.options import AsJson, Profile, Server

if TYPE_CHECKING:
    from tesk.client.profile_file import ProfileFile

__all__ = ["profiles"]


def profiles(server: Server = None, profile: Profile = None, json: AsJson = False) -> None:
    """Show the servers you have named, and which one counts.

    They stand in client.yaml in ~/.config/tesk (or $XDG_CONFIG_HOME/tesk, or $TESK_CLIENT_CONFIG):

    \b
    default: lab
    profiles:
      lab:
        url: https://tes.lab.example
        token_file: lab.token       # or token: ${LAB_TOKEN}; or user and password_file
      here:
        url: http://127.0.0.1:8000

    More keys: headers, timeout (seconds), ca (a file of certificates), verify (false trusts any certificate).
    --server, --profile, $TES_URL, $TESK_PROFILE and the default count in this order. Secrets are never printed.
    """
    import os

    from tesk.cli.screen import print_json, print_rows, say
    from tesk.client.profiles import choose, file_path, profile_file

    file = profile_file(os.environ)
    chosen = choose(file, server, profile, os.environ)
    rows = list(_rows(file, chosen.profile))
    if json:
        for row in rows:
            print_json(row)
    elif rows:
        print_rows(
            ("", "PROFILE", "URL", "CREDENTIALS"), ([row[key] or "" for key in _COLUMNS] for row in _marked(rows))
        )
    else:
        say(f"there are no profiles; write them to {file_path(os.environ)} ('tesk profiles --help' shows how)")
    _tell(file, server, profile)


_COLUMNS = ("mark", "profile", "url", "credentials")


def _rows(file: ProfileFile | None, in_force: str | None) -> list[dict[str, Any]]:
    from tesk.client.profiles import credentials, shown_address

    found = {} if file is None else file.profiles
    return [
        {
            "profile": name,
            "url": shown_address(each),
            "credentials": credentials(each),
            "in_force": name == in_force,
        }
        for name, each in found.items()
    ]


def _marked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "mark": "*" if row["in_force"] else ""} for row in rows]


def _tell(file: ProfileFile | None, server: str | None, profile: str | None) -> None:
    """What is in force, resolved, so that a variable which is not set is told here and not first by a command."""
    from tesk.cli.screen import say
    from tesk.client import find_target
    from tesk.client.connection import server_url, without_secrets

    target = find_target(server, profile)
    for warning in target.warnings:
        say(warning)
    say(f"commands speak with {without_secrets(server_url(target.url))}: {target.source}")
