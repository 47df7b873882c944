"""Python's sqlite3 module, with SQLite told not to count the memory that it takes.

Nobody asks for that count, and every thread waits for its one lock at each allocation, so that two readers would be
slower than one. Import sqlite3 from here: SQLite takes the setting only before its first use (sqlite.org/malloc.html,
"Memory Usage Statistics").
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util

__all__ = ["sqlite3"]

_MEMSTATUS = 9


def _count_no_memory() -> None:
    found = importlib.util.find_spec("_sqlite3")
    file = found.origin if found is not None and found.has_location else None  # None: it is built into Python
    with contextlib.suppress(OSError, AttributeError):  # a Python that hides its SQLite: it goes on counting
        ctypes.CDLL(file).sqlite3_config(_MEMSTATUS, 0)


_count_no_memory()

import sqlite3  # noqa: E402
