"""Connections that nobody uses now and somebody may soon."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

__all__ = ["Idle"]

MOST = 16
"""Of all servers together: each is a descriptor here and a session there, and a server of TESK lives long."""


class _Closable(Protocol):
    def close(self) -> None: ...


K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=_Closable)


class Idle(Generic[K, S]):
    """Sessions by whom they are with; beyond `most` in all, the one that has waited longest is closed."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: list[tuple[K, S]] = []

    def take(self, key: K) -> S | None:
        """The session with `key` that was used last, which is kept no more; None where there is none."""
        for at in range(len(self._kept) - 1, -1, -1):
            if self._kept[at][0] == key:
                return self._kept.pop(at)[1]
        return None

    def put(self, key: K, session: S) -> None:
        """Keep `session` for the next who asks for `key`."""
        self._kept.append((key, session))
        if len(self._kept) > self._most:
            self._kept.pop(0)[1].close()

    def close(self) -> None:
        """Close them all."""
        while self._kept:
            self._kept.pop()[1].close()
