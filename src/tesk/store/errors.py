"""The errors of the store."""

from __future__ import annotations

__all__ = ["KeyTaken", "StoreError", "Unstorable"]


class StoreError(Exception):
    """The database cannot do what was asked; the message is one sentence for whoever runs the server."""


class Unstorable(StoreError):
    """The database works and refuses what it was given: to try it again is in vain."""


class KeyTaken(Exception):
    """Another request was given this creation key before."""
