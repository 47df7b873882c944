"""The errors of the store."""

from __future__ import annotations

__all__ = ["KeyTaken", "StoreError"]


class StoreError(Exception):
    """The database cannot do what was asked; the message is one sentence for whoever runs the server."""


class KeyTaken(Exception):
    """Another request was given this creation key before."""
