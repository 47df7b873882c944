"""Importing without garbage collection: modules live as long as the process, so looking through them is in vain."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["importing"]


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Around heavy imports: a tenth faster, and later collections never look at what they made."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
