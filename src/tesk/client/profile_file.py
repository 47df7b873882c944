"""The client's file of profiles, read with the line of each value; nothing in it is looked up yet."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tesk.client.errors import ProfileError

__all__ = ["SECRETS", "Profile", "ProfileFile", "Value", "read_profiles"]

SECRETS = ("token", "password")
Node = Any  # yaml.nodes.Node, which has no `id` in the types of PyYAML


@dataclass(frozen=True, slots=True)
class Value:
    """A value and its line, from 1; secrets are among them, so it is not shown."""

    value: Any = field(repr=False)
    line: int


@dataclass(frozen=True, slots=True)
class Profile:
    """One server as the file tells it: `${NAME}` still stands in the values."""

    name: str
    line: int
    values: dict[str, Value]
    headers: dict[str, Value]


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """The whole file; `default` is the profile that counts when nothing else is said."""

    path: Path
    profiles: dict[str, Profile]
    default: str | None


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be text; a number needs quotes"


def _seconds(value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86400
    return None if number else "must be a number of seconds above 0, at most 86400"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


_KEYS: dict[str, Callable[[Any], str | None]] = {
    "url": _text,
    "token": _text,
    "token_file": _text,
    "user": _text,
    "password": _text,
    "password_file": _text,
    "headers": lambda value: None,
    "timeout": _seconds,
    "ca": _text,
    "verify": _boolean,
}


def read_profiles(path: Path) -> ProfileFile:
    """Read the file; raises ProfileError with every fault, each with its line."""
    import yaml  # 25 ms that nobody without a file need spend

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: is not UTF-8 text.") from error
    reading = _Reading(path)
    try:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            root = loader.get_single_node()
            file = reading.file(loader, root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ProfileError(f"{place}: is not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}: is not YAML: {error}.") from error
    if reading.faults:
        raise ProfileError(*reading.faults)
    return file


class _Reading:
    """Reads nodes; faults gather. A value never becomes part of a sentence: it may be a secret."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.faults: list[str] = []

    def file(self, loader: Any, root: Node) -> ProfileFile:
        profiles: dict[str, Profile] = {}
        default: Value | None = None
        for key, key_node, value in self._pairs(root, "the file", ("default", "profiles")):
            if key == "default":
                default = Value(loader.construct_object(value), key_node.start_mark.line + 1)
            else:
                for name, name_node, each in self._pairs(value, "'profiles'"):
                    profiles[name] = self._profile(loader, name, name_node, each)
        if default is not None and default.value not in profiles:
            known = ", ".join(profiles) or "none"
            self.faults.append(f"{self._path}:{default.line}: 'default' must name a profile; there are: {known}.")
        if default is None and len(profiles) == 1:
            return ProfileFile(self._path, profiles, next(iter(profiles)))
        return ProfileFile(self._path, profiles, None if default is None else str(default.value))

    def _profile(self, loader: Any, name: str, name_node: Node, node: Node) -> Profile:
        values: dict[str, Value] = {}
        headers: dict[str, Value] = {}
        for key, key_node, value_node in self._pairs(node, f"'{name}'", tuple(_KEYS)):
            if key == "headers":
                for header, header_node, each in self._pairs(value_node, f"'{name}.headers'"):
                    headers[header] = self._value(loader, header_node, each, f"{name}.headers.{header}", _text)
            else:
                values[key] = self._value(loader, key_node, value_node, f"{name}.{key}", _KEYS[key])
        profile = Profile(name, name_node.start_mark.line + 1, values, headers)
        self._check(profile)
        return profile

    def _value(self, loader: Any, key_node: Node, node: Node, dotted: str, check: Callable[[Any], str | None]) -> Value:
        value = Value(loader.construct_object(node, deep=True), key_node.start_mark.line + 1)
        wrong = check(value.value)
        if wrong is not None:
            self.faults.append(f"{self._path}:{value.line}: '{dotted}' {wrong}.")
        return value

    def _check(self, profile: Profile) -> None:
        def fault(sentence: str) -> None:
            self.faults.append(f"{self._path}:{profile.line}: '{profile.name}' {sentence}.")

        given = set(profile.values)
        if "url" not in given:
            fault("has no 'url'")
        for secret in SECRETS:
            if {secret, f"{secret}_file"} <= given:
                fault(f"has both '{secret}' and '{secret}_file': keep one")
        password = given & {"password", "password_file"}
        if password and "user" not in given:
            fault("has a password but no 'user'")
        if "user" in given and given & {"token", "token_file"}:
            fault("has both a token and a user: keep one")
        authorization = [one for one in profile.headers if one.lower() == "authorization"]
        if authorization and given & {"token", "token_file", "user"}:
            fault("has both an Authorization header and a token or user: keep one")

    def _pairs(self, node: Node, where: str, known: tuple[str, ...] = ()) -> Iterator[tuple[str, Node, Node]]:
        """The keys of a mapping, each once; only `known` ones unless that is empty."""
        if node is None or (node.id == "scalar" and node.tag == "tag:yaml.org,2002:null"):
            return
        if node.id != "mapping":
            keys = f": {', '.join(known)}" if known else ""
            self.faults.append(f"{self._path}:{node.start_mark.line + 1}: {where} must hold keys, one a line{keys}.")
            return
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            if known and name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"the keys there are: {', '.join(known)}."
                self.faults.append(f"{self._path}:{line}: unknown key '{name}' in {where}; {hint}")
            elif name in seen:
                self.faults.append(
                    f"{self._path}:{line}: '{name}' in {where} is set twice; the first is in line {seen[name]}."
                )
            else:
                seen[name] = line
                yield name, key_node, value_node
