"""A YAML file as values with the line of each, checked against the names of the models."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tesk.config.errors import ConfigError
from tesk.config.keys import keys, section_of
from tesk.config.models import Config

__all__ = ["Document", "read_document", "scalar"]

KeyPath = tuple[str, ...]
Node = Any  # yaml.nodes.Node, which has no `id` in the types of PyYAML

_NULL = "tag:yaml.org,2002:null"


@dataclass(slots=True)
class Document:
    """What a file says: `values` by path, `lines` by path (from 1), and the faults found so far."""

    file: str
    values: dict[KeyPath, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_document(file: Path) -> Document:
    """Read `file`.

    Raises ConfigError when the file cannot be read at all or is not YAML; unknown names become `faults`.
    """
    document = Document(str(file))
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: is not UTF-8 text"]) from error
    _read(document, text)
    return document


def _read(document: Document, text: str) -> None:
    import yaml  # 25 ms that a server without a file need not spend

    try:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            root = loader.get_single_node()
            if root is not None:
                _section(document, loader, root, Config, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{document.file}:{mark.line + 1}" if mark else document.file
        raise ConfigError([f"{place}: is not YAML: {error.problem or error.context}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{document.file}: is not YAML: {error}"]) from error


def scalar(text: str) -> Any:
    """The value that `text` would have in the file (`true`, `8000`, `null`); what is no YAML is text."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _section(document: Document, loader: Any, node: Node, model: type[BaseModel], path: KeyPath) -> None:
    if node.id == "scalar" and node.tag == _NULL:
        return
    if node.id != "mapping":
        where = f"'{'.'.join(path)}'" if path else "the file"
        document.faults.append(
            f"{_place(document, node)}: {where} must hold keys, one a line: {', '.join(model.model_fields)}"
        )
        return
    for key_node, value_node in node.value:
        name = str(key_node.value) if key_node.id == "scalar" else "…"
        place = _place(document, key_node)
        here = (*path, name)
        found = model.model_fields.get(name)
        if found is None:
            document.faults.append(f"{place}: {_unknown(name, model, path)}")
        elif here in document.lines:
            document.faults.append(
                f"{place}: '{'.'.join(here)}' is set twice; the first is in line {document.lines[here]}"
            )
        else:
            document.lines[here] = key_node.start_mark.line + 1
            section = section_of(found)
            if section is not None:
                _section(document, loader, value_node, section, here)
            else:
                document.values[here] = loader.construct_object(value_node, deep=True)


def _place(document: Document, node: Node) -> str:
    return f"{document.file}:{node.start_mark.line + 1}"


def _unknown(name: str, model: type[BaseModel], path: KeyPath) -> str:
    where = f" in '{'.'.join(path)}'" if path else ""
    close = difflib.get_close_matches(name, model.model_fields, n=1)
    if close:
        return f"unknown key '{name}'{where}; did you mean '{close[0]}'?"
    elsewhere = [key.dotted for key in keys() if key.path[-1] == name]
    if elsewhere:
        return f"unknown key '{name}'{where}; did you mean '{elsewhere[0]}'?"
    return f"unknown key '{name}'{where}; the keys there are: {', '.join(model.model_fields)}"
