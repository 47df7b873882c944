"""Check the documentation: links lead somewhere, made pages are what the code makes, commands and tests exist.

`python docs/check.py --write` writes the pages that are made from the code.
"""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

from tesk.cli.app import app
from tesk.config import describe

ROOT = Path(__file__).parent.parent
MADE = {"docs/configuration.md": describe}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
COMMAND = re.compile(r"(?:\.venv/bin/|`)tesk ([a-z]+)")
TEST = re.compile(r"`(test_\w+)`")
TARGET = re.compile(r"^make ([a-z-]+)|`make ([a-z-]+)`", re.MULTILINE)


def main() -> int:
    """Exit code 1 when something is wrong."""
    if "--write" in sys.argv:
        for name, make in MADE.items():
            (ROOT / name).write_text(make())
    faults = [*_made(), *(fault for page in _pages() for fault in _page(page))]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def _made() -> list[str]:
    return [
        f"{name} is not what the code makes: run 'make docs'"
        for name, make in MADE.items()
        if not (ROOT / name).exists() or (ROOT / name).read_text() != make()
    ]


def _page(page: Path) -> list[str]:
    text, name = page.read_text(), page.relative_to(ROOT)
    faults = [
        f"{name} links to {link}, which is not there"
        for link in LINK.findall(text)
        if "://" not in link and not (page.parent / link).exists()
    ]
    known = _commands()
    faults += [f"{name} names 'tesk {one}', which is no command" for one in COMMAND.findall(text) if one not in known]
    makefile = (ROOT / "Makefile").read_text()
    faults += [
        f"{name} names 'make {one}', which is no target"
        for found in TARGET.findall(text)
        for one in found
        if one and f"\n{one}:" not in makefile
    ]
    tests = _tests()
    faults += [f"{name} names {one}, which is no test" for one in TEST.findall(text) if one not in tests]
    return faults


@functools.cache
def _tests() -> frozenset[str]:
    texts = (page.read_text() for page in (ROOT / "tests").glob("**/test_*.py"))
    return frozenset(one for text in texts for one in re.findall(r"def (test_\w+)", text))


def _commands() -> set[str]:
    commands = [one.name or (one.callback.__name__ if one.callback else "") for one in app.registered_commands]
    return {*commands, *(one.name for one in app.registered_groups if isinstance(one.name, str))}


if __name__ == "__main__":
    sys.exit(main())
