"""Options of `tesk run` that stand in files: `--flags FILE`, a heredoc, and the rows of `--scatter FILE`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from tesk.cli.faults import USAGE, CommandError

if TYPE_CHECKING:
    from tesk.cli.compose import Wanted

__all__ = ["FlagsCommand", "Row", "read_text", "rows_of", "wanted_from", "wanted_of_row"]

# click's, whose own module typer's newer versions carry under another name
UsageError: type[Any] = typer.BadParameter.__mro__[1]

_HEADER = re.compile(r"(--?[A-Za-z][A-Za-z-]*)(?: +([A-Za-z_][A-Za-z0-9_]*))?")
_FIELDS = {
    "command": "command",
    "shell": "shell",
    "image": "image",
    "name": "name",
    "description": "description",
    "inputs": "inputs",
    "input_directories": "input_directories",
    "outputs": "outputs",
    "output_directories": "output_directories",
    "contents": "contents",
    "env": "env",
    "tag": "tags",
    "volume": "volumes",
    "zone": "zones",
    "workdir": "workdir",
    "stdin": "stdin",
    "stdout": "stdout",
    "stderr": "stderr",
    "cpu": "cpu_cores",
    "ram": "ram_gb",
    "disk": "disk_gb",
    "preemptible": "preemptible",
}
"""Which parameter of the command is which field of Wanted; the others say how to run, not what."""


class FlagsCommand(TyperCommand):
    """A command that takes further words from `--flags FILE`, and from standard input in the place of a `-`.

    The words of files come first, so that what stands on the command line counts.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the files, then `args`."""
        if not ctx.resilient_parsing:
            args = self._expanded(args)
        return super().parse_args(ctx, args)

    def _expanded(self, args: Sequence[str]) -> list[str]:
        valued = {name for each in self.params for name in each.opts if not getattr(each, "is_flag", True)}
        more: list[str] = []
        own: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                own += [word, *words]
            elif word == "-":
                more += words_of("-")
            elif word == "--flags" or word.startswith("--flags="):
                more += words_of(next(words, "") if word == "--flags" else word.partition("=")[2])
            else:
                own.append(word)
                if word in valued:
                    own += [one for one in [next(words, None)] if one is not None]
        return [*more, *own]


def words_of(file: str) -> list[str]:
    """The words in a file, read as a shell would; `#` begins a comment.

    Raises CommandError when the file cannot be read or a quote is left open.
    """
    import shlex

    text = read_text(file, "--flags")
    try:
        return shlex.split(text, comments=True)
    except ValueError as error:
        raise CommandError(f"{_title(file)}: cannot be split into words: {error}", USAGE) from error


def read_text(file: str, option: str) -> str:
    """The text in a file, `-` being standard input; raises CommandError when it cannot be read."""
    if not file:
        raise CommandError(f"{option} needs the name of a file", USAGE)
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{option}: cannot read {_title(file)}: {error.strerror}", USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{option}: {_title(file)} is not UTF-8 text", USAGE) from error


def _title(file: str) -> str:
    return "standard input" if file == "-" else file


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `--scatter`: where it stands, for messages, and its words."""

    place: str
    words: tuple[str, ...]


def rows_of(file: str) -> list[Row]:
    """The rows of a `--scatter` file.

    Each line holds options, as a shell would read them; or the file is a table, its columns apart by tabs, whose
    header names an option in each column: `-i reads` makes `-i reads=CELL`, `--cpu` makes `--cpu CELL`, and an empty
    cell makes nothing. Raises CommandError with every line that cannot be read.
    """
    import shlex

    lines = [
        (number, line)
        for number, line in enumerate(read_text(file, "--scatter").splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise CommandError(f"--scatter: {_title(file)} holds no row", USAGE)
    header = [_HEADER.fullmatch(cell.strip()) for cell in lines[0][1].split("\t")]
    table = all(header) and ("\t" in lines[0][1] or file.endswith(".tsv"))
    faults: list[str] = []
    rows: list[Row] = []
    for number, line in lines[1:] if table else lines:
        place = f"{_title(file)}:{number}"
        try:
            words = _cells([one for one in header if one], line) if table else shlex.split(line, comments=True)
            rows.append(Row(place, tuple(words)))
        except ValueError as error:
            faults.append(f"{place}: {error}")
    if faults:
        raise CommandError("\n".join(faults), USAGE)
    if not rows:
        raise CommandError(f"--scatter: {_title(file)} holds a header and no row", USAGE)
    return rows


def _cells(header: Sequence[re.Match[str]], line: str) -> Iterator[str]:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) != len(header):
        raise ValueError(f"has {len(cells)} columns where the header has {len(header)}")
    words: list[str] = []
    for column, cell in zip(header, cells, strict=True):
        if cell:
            option, name = column.groups()
            words += [option, f"{name}={cell}" if name else cell]
    return iter(words)


def wanted_from(params: Mapping[str, Any]) -> Wanted:
    """What the parsed parameters of `tesk run` ask for."""
    from tesk.cli.compose import Wanted

    found: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        value = params.get(name)
        if value is not None:
            found[field] = tuple(value) if isinstance(value, list | tuple) else value
    return Wanted(**found)


def wanted_of_row(command: Any, row: Row) -> Wanted:
    """What a row asks for, by the parser of `command` itself.

    Raises CommandError for words that the command would not take, and for options that say how to run.
    """
    try:
        with command.make_context("run", list(row.words), help_option_names=[]) as ctx:
            source = ctx.get_parameter_source
            given = [name for name in ctx.params if source(name) is not None and source(name).name == "COMMANDLINE"]
            params = dict(ctx.params)
    except UsageError as error:
        raise CommandError(f"{row.place}: {error.format_message()}", USAGE) from error
    for name in given:
        if name not in _FIELDS:
            raise CommandError(f"{row.place}: --{name.replace('_', '-')} cannot differ from row to row", USAGE)
    return wanted_from(params)
