"""The configuration as text: a commented file for `tesk config show`, Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel

from tesk.config.keys import Key, keys, section_at
from tesk.config.load import Loaded

__all__ = ["describe", "redacted", "to_yaml"]


def to_yaml(loaded: Loaded) -> str:
    """The whole configuration as a `tesk.yaml`, each value with what it is for and where it is from.

    A password in `store.url` is shown as `***`.
    """
    return "\n".join(_yaml_lines(loaded)) + "\n"


def _yaml_lines(loaded: Loaded) -> Iterator[str]:
    section: tuple[str, ...] = ()
    for key in keys():
        parent = key.path[:-1]
        if parent != section:
            for depth in range(len(parent)):
                if parent[: depth + 1] != section[: depth + 1]:
                    yield f"{'  ' * depth}{parent[depth]}:"
            section = parent
        indent = "  " * len(parent)
        yield f"{indent}# {key.field.description}"
        value = redacted(key, key.value_in(loaded.config))
        yield f"{indent}{key.path[-1]}: {_yaml(value)}  # {loaded.sources[key.dotted]}"


def redacted(key: Key, value: Any) -> Any:
    """`value` without the password that a URL may hold."""
    if key.dotted != "store.url" or "@" not in value:
        return value
    parts = urlsplit(value)
    if parts.password is None:
        return value
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{place}"))


def describe() -> str:
    """Every key as Markdown: what it means, its default, its environment variable."""
    return "\n".join([*_HEAD, *_markdown_lines()]) + "\n"


_HEAD = (
    "# Configuration\n",
    "One file, `tesk.yaml`: named with `--config` or `TESK_CONFIG`, or found in the current directory, in",
    "`$XDG_CONFIG_HOME/tesk` or in `/etc/tesk`. Every key can also be an environment variable, which wins over the",
    "file; options of `tesk serve` win over both. `tesk config show` prints what is in force and where each value",
    "comes from, `tesk config check` names every fault with its line. This page is made from the code.\n",
)


def _markdown_lines() -> Iterator[str]:
    section: tuple[str, ...] | None = None
    for key in keys():
        parent = key.path[:-1]
        if parent != section:
            section = parent
            if parent:
                yield f"\n## {'.'.join(parent)}\n"
                yield f"{(section_at(parent).__doc__ or '').strip().splitlines()[0]}\n"
            yield "| key | default | meaning |"
            yield "|---|---|---|"
        default = "the platform's" if key.required else f"`{_yaml(key.default)}`"
        meaning = str(key.field.description).replace("|", "\\|")
        if key.choices:
            meaning += f" One of {', '.join(f'`{one}`' for one in key.choices)}."
        yield f"| `{key.dotted}`<br>`{key.variable}` | {default} | {meaning} |"


def _plain(value: Any) -> Any:
    """`value` as YAML knows it; in a part of it, what is not said is left out."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return {name: _plain(one) for name, one in value if name in value.model_fields_set}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(_plain(value), default_flow_style=True, width=2**20, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
