"""Wildcards in `tesOutput.path`: POSIX 1003.1-2017, section 2.13, and nothing more.

`?`, `*`, `[...]` and the backslash. A slash and a leading period match only themselves, so there is no `**`
and no `{a,b}`. Pure text; walking a tree with a pattern is `tesk.storage.globs`.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["components", "fixed_directory", "has_wildcards", "literal", "match", "match_name"]

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""Character classes as in the POSIX locale (XBD 7.3.1), so that a pattern means the same on every machine."""

_LONGEST = 4096
"""Characters of one component; no file has such a name, and nobody shall make us read a megabyte of brackets."""

_SPECIAL = re.compile(r"[*?[]")
_NEVER = "(?!)"
_ANY = "[^/]"


def has_wildcards(path: str) -> bool:
    """Whether `path` is a pattern: it holds an unescaped `*` or `?`, or a bracket expression that is closed.

    A path without wildcards names one file by exactly its characters, backslashes too.
    """
    return _SPECIAL.search(path) is not None and any(_pieces(one)[1] for one in path.split("/"))


def components(pattern: str) -> tuple[str, ...]:
    """The parts of `pattern` between slashes, without empty ones."""
    return tuple(one for one in pattern.split("/") if one)


def match(pattern: str, path: str) -> bool:
    """Whether the whole of `path` matches `pattern`; both are absolute or neither is."""
    if pattern.startswith("/") != path.startswith("/"):
        return False
    wanted, given = components(pattern), components(path)
    return len(wanted) == len(given) and all(map(match_name, wanted, given))


def match_name(pattern: str, name: str) -> bool:
    """Whether one file name matches one component of a pattern (no slashes in either)."""
    if name.startswith(".") and not pattern.startswith((".", "\\.")):
        return False
    return len(pattern) <= _LONGEST and _compiled(pattern).fullmatch(name) is not None


def literal(pattern: str) -> str | None:
    """The one name that this component matches, or None when it holds wildcards."""
    if _pieces(pattern)[1]:
        return None
    return re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)


def fixed_directory(pattern: str) -> str:
    """The directory that every match of an absolute `pattern` lies in: what stands before the first wildcard.

    `/data/run?/x.txt` gives `/data`, and so does `/data/*`; without wildcards it is the parent directory.
    """
    fixed: list[str] = []
    for one in components(pattern)[:-1]:
        name = literal(one)
        if name is None:
            break
        fixed.append(name)
    return "/" + "/".join(fixed)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    """One component as a regular expression that takes linear time.

    Between two stars stand pieces of fixed length, so the first place where a piece fits is as good as any other:
    each but the last may be an atomic group, and no choice is ever taken back.
    """
    first, *rest = _pieces(pattern)[0]
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>{_ANY}*?{one})" for one in rest[:-1] if one)
    return re.compile(f"{first}{middle}{_ANY}*{rest[-1]}", re.DOTALL)


def _pieces(pattern: str) -> tuple[tuple[str, ...], bool]:
    """The regular expressions between the stars of one component, and whether anything in it is a wildcard."""
    if len(pattern) > _LONGEST:
        return (_NEVER,), False
    return _read(pattern)


@lru_cache(maxsize=512)
def _read(pattern: str) -> tuple[tuple[str, ...], bool]:
    pieces = [""]
    wild = False
    at = 0
    while at < len(pattern):
        here = pattern[at]
        at += 1
        if here == "*":
            wild = True
            pieces.append("")
        elif here == "?":
            wild = True
            pieces[-1] += _ANY
        elif here == "[" and (found := _bracket(pattern, at)):
            wild = True
            pieces[-1] += found[0]
            at = found[1]
        elif here == "\\" and at < len(pattern):
            pieces[-1] += re.escape(pattern[at])
            at += 1
        else:
            pieces[-1] += re.escape(here)
    return tuple(pieces), wild


def _bracket(pattern: str, at: int) -> tuple[str, int] | None:
    """The bracket expression whose `[` stands before `at`, and where it ends; None when it is never closed.

    A range that runs backwards, and a class that does not exist, match nothing (POSIX leaves both open).
    """
    negated = pattern[at : at + 1] in ("!", "^")  # POSIX leaves `^` open; every shell takes it as `!`
    at += negated
    members: list[str] = []
    first = True
    while at < len(pattern):
        if pattern[at] == "]" and not first:
            return _set(members, negated), at + 1
        first = False
        if pattern.startswith("[:", at):
            end = pattern.find(":]", at + 2)
            if end >= 0:
                members.append(_CLASSES.get(pattern[at + 2 : end], ""))
                at = end + 2
                continue
        low, at = _member(pattern, at)
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("]", ""):
            high, at = _member(pattern, at + 1)
            if low <= high:
                members.append(f"{_escaped(low)}-{_escaped(high)}")
        else:
            members.append(_escaped(low))
    return None


def _member(pattern: str, at: int) -> tuple[str, int]:
    """One character of a bracket expression: itself, escaped, or as `[.x.]` or `[=x=]`."""
    collating = re.compile(r"\[([.=])(.)\1\]", re.DOTALL).match(pattern, at)
    if collating:
        return collating[2], collating.end()
    if pattern[at] == "\\" and at + 1 < len(pattern):
        at += 1
    return pattern[at], at + 1


def _set(members: list[str], negated: bool) -> str:
    inside = "".join(members)
    if not inside:
        return _ANY if negated else _NEVER
    return f"[^/{inside}]" if negated else f"(?!/)[{inside}]"


def _escaped(character: str) -> str:
    return f"\\U{ord(character):08x}"
