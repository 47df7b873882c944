"""The configuration from file, environment and command line, every fault at once."""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tesk.config.document import Document, read_document, scalar
from tesk.config.errors import ConfigError
from tesk.config.keys import PREFIX, Key, keys
from tesk.config.models import Config
from tesk.config.places import default_state_directory, find_file, home
from tesk.config.shared import OLD_VARIABLES

__all__ = ["Loaded", "Source", "load", "load_with_sources"]

_log = logging.getLogger("tesk.config")

_NOT_KEYS = {"TESK_CONFIG", "TESK_URL", "TESK_FTP_USERNAME", "TESK_FTP_PASSWORD"}
_NOT_OURS = re.compile(r"TESK_(TEST_.*|SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP)(_.*)?)?)")
"""The tests' own variables, and what Kubernetes sets in every pod when a Service is called `tesk`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and how it came to be.

    `sources` says for each key (`server.port`) where its value is from: `default`, `tesk.yaml:7`,
    `$TESK_SERVER_PORT`, `command line`. `warnings` are sentences for the operator.
    """

    config: Config
    file: Path | None
    sources: dict[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration is from, so that it can be read again: the arguments of `load_with_sources`."""

    path: Path | None
    environ: Mapping[str, str]
    overrides: Mapping[str, Any]

    def load(self) -> Loaded:
        """Read it now. Raises ConfigError with every fault."""
        return load_with_sources(self.path, self.environ, self.overrides)


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration: `load_with_sources`, with the warnings written to the log.

    Raises ConfigError with every fault.
    """
    loaded = load_with_sources(path, environ, overrides)
    for warning in loaded.warnings:
        _log.warning("%s", warning)
    return loaded.config


def load_with_sources(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    directory: Path | None = None,
) -> Loaded:
    """Read file, environment and `overrides` (by dotted key, from the command line); the later wins.

    The file is `path`, else `$TESK_CONFIG`, else `tesk.yaml` in `directory` (the current one), in
    `$XDG_CONFIG_HOME/tesk`, in `/etc/tesk`; none is fine. Raises ConfigError with every fault.
    """
    file = find_file(path, environ, directory or Path.cwd())
    document = read_document(file) if file else Document("")
    values: dict[tuple[str, ...], Any] = dict(document.values)
    sources = {at: f"{document.file}:{document.lines[at]}" for at in values}
    for variable, name in OLD_VARIABLES.items():
        if environ.get(variable):
            values["transfer", name] = environ[variable]
            sources["transfer", name] = f"${variable}"
    for key in keys():
        if environ.get(key.variable) is not None:
            values[key.path] = _from_variable(key, environ[key.variable])
            sources[key.path] = f"${key.variable}"
    for dotted, value in (overrides or {}).items():
        path_of = tuple(dotted.split("."))
        values[path_of] = value
        sources[path_of] = "command line"
    if ("state_directory",) not in values:
        state, why = default_state_directory(environ)
        values["state_directory",] = state
        sources["state_directory",] = why
    _expand_home(values, environ)
    config, faults = _validate(values, sources)
    if config is None or document.faults:
        raise ConfigError(sorted([*document.faults, *faults], key=_by_line))
    return Loaded(
        config,
        file,
        {key.dotted: sources.get(key.path, "default") for key in keys()},
        tuple(_warnings(environ)),
    )


def _from_variable(key: Key, text: str) -> Any:
    if key.is_list:
        if text.lstrip().startswith("["):
            try:
                return json.loads(text)
            except ValueError:
                return text
        return [one.strip() for one in text.split(",") if one.strip()]
    return text if key.is_text else scalar(text)


def _expand_home(values: dict[tuple[str, ...], Any], environ: Mapping[str, str]) -> None:
    """Let `~` at the start of a directory mean the home directory."""

    def expand(value: Any) -> Any:
        if isinstance(value, str) and (value == "~" or value.startswith("~/")):
            return str(home(environ)) + value[1:]
        return value

    for path in (("state_directory",), ("storage", "file_roots")):
        value = values.get(path)
        if isinstance(value, list):
            values[path] = [expand(one) for one in value]
        elif value is not None:
            values[path] = expand(value)


def _validate(
    values: Mapping[tuple[str, ...], Any], sources: Mapping[tuple[str, ...], str]
) -> tuple[Config | None, list[str]]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        here = tree
        for name in path[:-1]:
            here = here.setdefault(name, {})
        here[path[-1]] = value
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        return None, [_fault(one, values, sources) for one in error.errors(include_url=False)]
    found = config.faults()
    return (None if found else config), [
        f"{sources.get(tuple(dotted.split('.')), 'default')}: {dotted} {fault}" for dotted, fault in found.items()
    ]


def _fault(error: Any, values: Mapping[tuple[str, ...], Any], sources: Mapping[tuple[str, ...], str]) -> str:
    loc = tuple(str(one) for one in error["loc"])
    by_path = {key.path: key for key in keys()}
    path = next((loc[:length] for length in range(len(loc), 0, -1) if loc[:length] in by_path), loc)
    source = sources.get(path, "default")
    if path not in by_path:
        return f"{source}: '{'.'.join(path)}' is not a key"
    key, value = by_path[path], values.get(path)
    inner = error["loc"][len(path) :]
    if inner and (len(inner) > 1 or isinstance(inner[0], str)):
        if error["type"] == "missing":
            return f"{source}: {key.dotted}{_inside(inner[:-1])} is {_shown(error['input'])}; it needs '{inner[-1]}'"
        return f"{source}: {key.dotted}{_inside(inner)} is {_shown(error['input'])}; {_wanted_inside(error)}"
    fault = f"{source}: {key.dotted} is {_shown(value)}; {_wanted(key, error)}"
    close = difflib.get_close_matches(str(value), key.choices, n=1)
    return f"{fault}; did you mean {close[0]}?" if close else fault


def _inside(loc: Sequence[str | int]) -> str:
    """Where in a key's value: `[0].name`."""
    return "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in loc if one != "[key]")


def _wanted_inside(error: Any) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "nothing of this name belongs there; take it out"
        case "literal_error":
            return "give one of: " + ", ".join(re.findall(r"'(\w+)'", error["ctx"]["expected"]))
    return _said(error)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"


_WANTED = {
    "bool_type": "give true or false",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "string_type": "give text (in quotes, if it looks like something else)",
    "tuple_type": "give a list",
    "dict_type": "give a map, such as {name: value}",
    "model_type": "give a map, such as {name: value}",
    "path_type": "give an absolute path",
    "finite_number": "give a number",
    "string_too_short": "give some text",
}


def _wanted(key: Key, error: Any) -> str:
    return f"give one of: {', '.join(key.choices)}" if key.choices else _said(error)


def _said(error: Any) -> str:
    kind, context = error["type"], error.get("ctx") or {}
    if kind in _WANTED:
        return _WANTED[kind]
    if kind == "value_error":
        return str(context["error"])
    limits = {"greater_than": ("gt", "more than"), "greater_than_equal": ("ge", "at least")}
    limits |= {"less_than": ("lt", "less than"), "less_than_equal": ("le", "at most")}
    if kind in limits:
        name, words = limits[kind]
        return f"give {words} {context[name]:.10g}"
    return str(error["msg"]).lower()


def _by_line(fault: str) -> tuple[int, str]:
    found = re.match(r".*?:(\d+): ", fault)
    return (int(found[1]) if found else 2**31, fault)


def _warnings(environ: Mapping[str, str]) -> Iterator[str]:
    known = {key.variable for key in keys()}
    starts = tuple({f"{PREFIX}{key.path[0].upper()}_" for key in keys() if len(key.path) > 1})
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or name in _NOT_KEYS or _NOT_OURS.fullmatch(name):
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if close:
            yield f"the environment variable {name} is no key of the configuration; did you mean {close[0]}?"
        elif name.startswith(starts):
            yield f"the environment variable {name} is no key of the configuration and is ignored"
