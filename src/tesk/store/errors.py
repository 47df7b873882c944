"""The error of the store."""

from __future__ import annotations

__all__ = ["StoreError"]


class StoreError(Exception):
    """The database cannot do what was asked; the message is one sentence for whoever runs the server."""
