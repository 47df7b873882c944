"""What FTP servers answer to MLSD (RFC 3659, 7) and to LIST, which no standard describes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

__all__ = ["Listed", "UnknownListing", "machine_listing", "plain_listing"]

Kind = Literal["file", "directory", "link", "other"]

_UNIX = re.compile(
    r"(?P<kind>[-dlbcps])\S{9,10}\s+\d+\s.*?\d,?\s+"  # rights, links, owner and group (maybe with spaces), size
    r"(?:\S+\s+\d{1,2}|\d{1,2}\s+\S+|\d{4}-\d\d-\d\d)\s+(?:\d{1,2}:\d\d|\d{4})\s"  # date in some order; time or year
    r"(?P<name>.+)"
)
_DOS = re.compile(r"\d\d-\d\d-\d{2,4}\s+\d\d:\d\d(?:\s?[AP]M)?\s+(?P<size><DIR>|<JUNCTION>|[\d,]+)\s+(?P<name>.+)")
_UNIX_KINDS: dict[str, Kind] = {"-": "file", "d": "directory", "l": "link"}
_MACHINE_KINDS: dict[str, Kind] = {"file": "file", "dir": "directory"}


class UnknownListing(ValueError):
    """A line that neither kind of server would write."""


class Listed(NamedTuple):
    """One name in a directory and what it is, a symlink not followed; `identity` is the same for two names of one
    thing, and empty where the server does not say.
    """

    name: str
    kind: Kind
    identity: str = ""


def machine_listing(lines: Iterable[str]) -> Iterator[Listed]:
    """The lines of an MLSD: `type=file;size=3; name`. Raises UnknownListing."""
    for line in lines:
        written, space, name = line.partition(" ")
        facts = {key.lower(): value for key, _, value in (one.partition("=") for one in written.split(";"))}
        kind = facts.get("type", "").lower()
        if not space or not kind:
            raise UnknownListing(line)
        if kind in ("cdir", "pdir"):
            continue
        link = kind.startswith(("os.unix=slink", "os.unix=symlink"))
        yield from _named(name, "link" if link else _MACHINE_KINDS.get(kind, "other"), facts.get("unique", ""))


def plain_listing(lines: Iterable[str]) -> Iterator[Listed]:
    """The lines of a LIST, as `ls -l` or as DOS writes them. Raises UnknownListing."""
    for line in lines:
        unix, dos = _UNIX.fullmatch(line), _DOS.fullmatch(line)
        if unix:
            kind = _UNIX_KINDS.get(unix["kind"], "other")
            yield from _named(unix["name"].partition(" -> ")[0] if kind == "link" else unix["name"], kind)
        elif dos:
            kinds: dict[str, Kind] = {"<DIR>": "directory", "<JUNCTION>": "link"}
            yield from _named(dos["name"], kinds.get(dos["size"], "file"))
        elif line.strip() and not line.startswith("total "):
            raise UnknownListing(line)


def _named(name: str, kind: Kind, identity: str = "") -> Iterator[Listed]:
    if name in (".", ".."):
        return
    if not name or "/" in name:
        raise UnknownListing(name)
    yield Listed(name, kind, identity)
