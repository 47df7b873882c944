"""Whose fault an error is: of the store or the backend, which are away for a while, or of one task alone."""

from __future__ import annotations

from collections.abc import Sequence

from tesk.backends.base import BackendAway
from tesk.store import Change, Store, StoreError, Unstorable

__all__ = ["apply_each", "is_away"]


def is_away(error: Exception) -> bool:
    """Whether the store or the backend does not answer: no task is at fault, and trying again helps in the end."""
    return isinstance(error, (StoreError, BackendAway)) and not isinstance(error, Unstorable)


async def apply_each(store: Store, changes: Sequence[Change]) -> list[bool | Exception]:
    """`Store.apply`; where a change fails for itself, its error stands in its place, and the others are kept.

    All are one transaction as long as none fails. Raises what says that the store is away; some may be kept by then.
    """
    if not changes:
        return []
    try:
        return [*await store.apply(changes)]
    except Exception as error:
        if is_away(error):
            raise
        if len(changes) == 1:
            return [error]
    half = len(changes) // 2
    return [*await apply_each(store, changes[:half]), *await apply_each(store, changes[half:])]
