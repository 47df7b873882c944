"""Every key of the configuration, found in the models: path, environment variable, type and default."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tesk.config.models import Config

__all__ = ["Key", "changed_keys", "keys", "section_at"]

PREFIX = "TESK_"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `path` in the file (`("server", "port")`) and what the models say of it."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def dotted(self) -> str:
        """The key as people write it: `server.port`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its environment variable: `TESK_SERVER_PORT`."""
        return PREFIX + "_".join(self.path).upper()

    def value_in(self, config: Config) -> Any:
        """Its value in `config`."""
        value: Any = config
        for name in self.path:
            value = getattr(value, name)
        return value

    @property
    def is_list(self) -> bool:
        """Whether the value is a list, which an environment variable may give separated by commas."""
        return typing.get_origin(self.field.annotation) is tuple

    @property
    def is_text(self) -> bool:
        """Whether the value is text, which an environment variable gives as it is."""
        kind = self.field.annotation
        return kind is str or self.choices != () or (isinstance(kind, type) and not issubclass(kind, int | float))

    @property
    def choices(self) -> tuple[str, ...]:
        """The values allowed, for a key that takes one of a few words."""
        if typing.get_origin(self.field.annotation) is typing.Literal:
            return typing.get_args(self.field.annotation)
        return ()

    @property
    def required(self) -> bool:
        """Whether the models give no default."""
        return self.field.is_required()

    @property
    def default(self) -> Any:
        """The default, when there is one."""
        return self.field.get_default(call_default_factory=True)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model behind a field that is a section of its own."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _walk(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is None:
            yield Key((*path, name), field)
        else:
            yield from _walk(section, (*path, name))


@cache
def keys() -> tuple[Key, ...]:
    """Every key, in the order of the models."""
    return tuple(_walk(Config, ()))


def section_at(path: tuple[str, ...]) -> type[BaseModel]:
    """The model of the section at `path`; `()` is the whole file."""
    model: type[BaseModel] = Config
    for name in path:
        found = section_of(model.model_fields[name])
        assert found is not None, path
        model = found
    return model


def changed_keys(old: Config, new: Config) -> list[Key]:
    """The keys whose values differ."""
    return [key for key in keys() if key.value_in(old) != key.value_in(new)]
