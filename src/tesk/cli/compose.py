"""From the options of `tesk run` to a TES task: names become paths in the container, and shell variables."""

from __future__ import annotations

import os.path
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tesk.cli.faults import USAGE, CommandError

__all__ = ["Composed", "Wanted", "compose"]

INPUTS = "/data/inputs"
OUTPUTS = "/data/outputs"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_TAKEN = frozenset({"PATH", "IFS", "HOME", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH"})
_SAFE_IN_FILE_URL = "/!$&'()*+,;=:@~"
_CONTENT_LIMIT = 128 * 1024  # what every TES server should take (TES 1.1.0 `tesInput.content`)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for; the tuples hold `NAME=VALUE` as given. Gigabytes are 10^9 bytes."""

    command: str | None = None
    shell: bool | None = None
    image: str | None = None
    name: str | None = None
    description: str | None = None
    inputs: tuple[str, ...] = ()
    input_directories: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    output_directories: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    workdir: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    cpu_cores: float | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    preemptible: bool | None = None

    def extended(self, more: Wanted) -> Wanted:
        """Both together: lists are joined, and of single values `more`'s counts."""
        merged: dict[str, Any] = {}
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(more, one.name)
            if isinstance(mine, tuple):
                merged[one.name] = mine + theirs
            else:
                merged[one.name] = mine if theirs is None else theirs
        return Wanted(**merged)


@dataclass(slots=True)
class Composed:
    """The task, the variables that its command sees, and the directories of the local files that it names."""

    task: dict[str, Any]
    variables: dict[str, str] = field(default_factory=dict)
    roots: set[str] = field(default_factory=set)

    def input(self, name: str, where: str, kind: str) -> str:
        """Add an input; its path in the container."""
        path = f"{INPUTS}/{name}/{_base(where, name)}"
        if not _URL.match(where) and not os.path.exists(where):
            raise CommandError(f"input {name}: there is no {where}", USAGE)
        if not _URL.match(where) and os.path.isdir(where) != (kind == "DIRECTORY"):
            option = "-i" if kind == "DIRECTORY" else "-I"
            what = "is not a directory" if kind == "DIRECTORY" else "is a directory"
            raise CommandError(f"input {name}: {where} {what}; name it with {option}", USAGE)
        url = self._url(where, kind)
        self.task["inputs"].append({"name": name, "url": url, "path": path, "type": kind})
        return path

    def output(self, name: str, where: str, kind: str) -> str:
        """Add an output; its path in the container."""
        # * ? [ in an output's path are wildcards to TES; the file that arrives keeps its own name
        path = f"{OUTPUTS}/{name}/{re.sub(r'[*?[]', '_', _base(where, name))}"
        url = self._url(where, kind)
        self.task["outputs"].append({"name": name, "url": url, "path": path, "type": kind})
        return path

    def content(self, name: str, where: str) -> str:
        """Add an input whose bytes travel in the task; its path in the container."""
        path = f"{INPUTS}/{name}/{_base(where, name)}"
        text = _text(name, where)
        self.task["inputs"].append({"name": name, "path": path, "type": "FILE", "content": text})
        return path

    def _url(self, where: str, kind: str) -> str:
        if where.startswith("file://"):
            self._allow(unquote(urlsplit(where).path), kind)
            return where
        if _URL.match(where):
            return where
        # links on the way are followed here, where they are the user's own wish
        real = os.path.realpath(where)
        self._allow(real, kind)
        return "file://" + quote(real, safe=_SAFE_IN_FILE_URL)

    def _allow(self, path: str, kind: str) -> None:
        root = Path(path if kind == "DIRECTORY" else os.path.dirname(path))
        # the directories of an output may still have to be made
        self.roots.add(str(next(one for one in (root, *root.parents) if one.is_dir())))


def compose(wanted: Wanted) -> Composed:
    """The TES task for what was asked.

    Raises CommandError, with a sentence, for an option that cannot be meant.
    """
    made = Composed({"name": wanted.name or _first_words(wanted.command or ""), "inputs": [], "outputs": []})
    _add(made.task, description=wanted.description)
    for option, pairs in (("-i", wanted.inputs), ("-I", wanted.input_directories)):
        for name, where in _pairs(option, pairs, made):
            made.variables[name] = made.input(name, where, "FILE" if option == "-i" else "DIRECTORY")
    for option, pairs in (("-o", wanted.outputs), ("-O", wanted.output_directories)):
        for name, where in _pairs(option, pairs, made):
            made.variables[name] = made.output(name, where, "FILE" if option == "-o" else "DIRECTORY")
    for name, where in _pairs("-C", wanted.contents, made):
        made.variables[name] = made.content(name, where)
    made.task["executors"] = [_executor(wanted, made)]
    _add(made.task, volumes=list(wanted.volumes), tags=_map("--tag", wanted.tags))
    resources: dict[str, Any] = {}
    _add(
        resources,
        cpu_cores=wanted.cpu_cores,
        ram_gb=wanted.ram_gb,
        disk_gb=wanted.disk_gb,
        preemptible=wanted.preemptible,
        zones=list(wanted.zones),
    )
    _add(made.task, resources=resources)
    for empty in [key for key in ("inputs", "outputs") if not made.task[key]]:
        del made.task[empty]
    return made


def _executor(wanted: Wanted, made: Composed) -> dict[str, Any]:
    executor: dict[str, Any] = {"image": wanted.image or "sandbox", "command": _command(wanted, made.variables)}
    env = {**made.variables, **_map("-e", wanted.env)}
    _add(executor, env=env, workdir=wanted.workdir)
    if wanted.stdin is not None:
        executor["stdin"] = made.input(_free("stdin", made), wanted.stdin, "FILE")
    if wanted.stdout is not None:
        executor["stdout"] = made.output(_free("stdout", made), wanted.stdout, "FILE")
    if wanted.stderr is not None:
        executor["stderr"] = made.output(_free("stderr", made), wanted.stderr, "FILE")
    return executor


def _command(wanted: Wanted, variables: dict[str, str]) -> list[str]:
    if wanted.command is None or not wanted.command.strip():
        raise CommandError("there is no command: what should run?", USAGE)
    if wanted.shell is not False:
        return ["/bin/sh", "-c", wanted.command]
    try:
        words = shlex.split(wanted.command)
    except ValueError as error:
        raise CommandError(f"the command cannot be split into words: {error}", USAGE) from error
    # no shell will do it in the container
    return [_VARIABLE.sub(lambda found: variables.get(found[1] or found[2], found[0]), one) for one in words]


def _pairs(option: str, given: Iterable[str], made: Composed) -> Iterable[tuple[str, str]]:
    for one in given:
        name, equals, where = one.partition("=")
        if not equals or not where or not _NAME.fullmatch(name):
            raise CommandError(f"{option} {one}: write it as {option} NAME=PATH, NAME as in shell variables", USAGE)
        if name in made.variables:
            raise CommandError(f"{option} {one}: the name {name} is already taken; choose another", USAGE)
        if name in _TAKEN:
            raise CommandError(f"{option} {one}: the shell needs {name} itself; choose another name", USAGE)
        yield name, where


def _map(option: str, given: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise CommandError(f"{option} {one}: write it as {option} KEY=VALUE", USAGE)
        found[key] = value
    return found


def _free(name: str, made: Composed) -> str:
    if name in made.variables:
        raise CommandError(f"the name {name} is needed for --{name}; choose another for yours", USAGE)
    return name


def _base(where: str, name: str) -> str:
    """The last component of a path or URL, by which the command sees it; `name` where there is none."""
    path = unquote(urlsplit(where).path) if _URL.match(where) else os.path.abspath(where)
    base = os.path.basename(path.rstrip("/"))
    return name if base in ("", ".", "..") else base


def _text(name: str, where: str) -> str:
    try:
        data = Path(where).read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise CommandError(f"content {name}: cannot read {where}: {error.strerror}", USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"content {name}: {where} is not UTF-8 text; name it with -i", USAGE) from error
    if len(data) > _CONTENT_LIMIT:
        raise CommandError(f"content {name}: {where} is larger than 128 KiB; name it with -i", USAGE)
    return text


def _first_words(command: str) -> str:
    words = " ".join(command.split())
    return words if len(words) <= 60 else f"{words[:59]}…"


def _add(target: dict[str, Any], **values: Any) -> None:
    """Put in what was given."""
    target.update({key: value for key, value in values.items() if value not in (None, [], {})})
