"""How names and tags are spelled in the columns that filters look at (the body keeps them as they came).

Both databases must find the same tasks, so what only one of them can hold is respelled, in rows and filters alike.
"""

from __future__ import annotations

import hashlib

__all__ = ["after_prefix", "name_term", "tag_term"]

_LONGEST_TAG = 256
_LAST = "\U0010ffff"


def name_term(text: str) -> str:
    """A task's name or a prefix of one. PostgreSQL's text cannot hold NUL."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def tag_term(text: str) -> str:
    """A tag's key or value: what is too long for PostgreSQL's index is known by its digest."""
    term = name_term(text)
    encoded = term.encode()
    return term if len(encoded) <= _LONGEST_TAG else f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def after_prefix(prefix: str) -> str | None:
    """The smallest text, by code points, that is greater than every text with this prefix; None when there is none."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:
        following = 0xE000
    return stem[:-1] + chr(following)
