"""Paths in a container: their one normal form, and which lies in which. Pure text."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

__all__ = ["PathError", "flaw", "is_unicode", "nearest", "normalise", "parent", "upwards", "within"]

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_LONGEST_NAME = 255
_LONGEST_PATH = 4095

PLAIN = r"(?:(?!\.{1,2}(?:/|\Z))[!-.0-~]{1,63})"
"""A component that is in its normal form and short enough, as nearly all are: one look instead of ten."""
_PLAIN_PATH = re.compile(rf"(?:/{PLAIN}){{1,15}}\Z")


class PathError(ValueError):
    """This is not a path that a task may use; the message says why and what to do."""


def flaw(text: str) -> str | None:
    """Why `text` can be in no path or URL (a control character, not UTF-8): a sentence's end, or None."""
    if text.isprintable():
        return None
    found = _CONTROL.search(text)
    if found:
        return f"holds the control character \\x{ord(found.group()):02x}; take it out"
    return None if is_unicode(text) else "is not UTF-8; use another name"


def is_unicode(text: str) -> bool:
    """Whether `text` can be encoded; a name that Python read from a file system may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def normalise(path: str) -> str:
    """`path` without doubled and trailing slashes and without `.` components.

    Raises PathError for a path that is relative, has a `..` component or a control character, or is too long
    for Linux.
    """
    if _PLAIN_PATH.match(path):
        return path
    unfit = flaw(path)
    if unfit:
        raise PathError(f"the path {path!r} {unfit}")
    if not path.startswith("/"):
        better = f"/data/{path.removeprefix('./')}" if path.strip() else "/data/file"
        raise PathError(f"the path '{path}' is not absolute; give an absolute one, such as '{better}'")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PathError(f"the path '{path}' has a '..' component; write the path without it")
    normal = "/" + "/".join(parts)
    if len(normal) * 4 > _LONGEST_NAME:
        _check_length(normal, parts)
    return normal


def _check_length(path: str, parts: list[str]) -> None:
    for part in parts:
        if len(part.encode()) > _LONGEST_NAME:
            raise PathError(f"the name '{part[:40]}...' is longer than {_LONGEST_NAME} bytes; shorten it")
    if len(path.encode()) > _LONGEST_PATH:
        raise PathError(f"the path '{path[:40]}...' is longer than {_LONGEST_PATH} bytes; shorten it")


def parent(path: str) -> str:
    """The directory that a normalised path lies in; the root's is the root."""
    return path.rpartition("/")[0] or "/"


def upwards(path: str) -> Iterator[str]:
    """A normalised path, then each directory above it, up to the root."""
    yield path
    while path != "/":
        path = parent(path)
        yield path


def nearest(path: str, directories: Container[str]) -> str | None:
    """The innermost of `directories` that a normalised path is or lies in."""
    return next((up for up in upwards(path) if up in directories), None)


def within(path: str, root: str) -> bool:
    """Whether a normalised path is `root` or below it, by component: `/database` is not within `/data`."""
    return path == root or root == "/" or path.startswith(root + "/")
