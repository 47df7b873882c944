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
    built_in = found is None or found.origin in (None, "built-in")
    with contextlib.suppress(OSError, AttributeError):  # a Python that hides its SQLite: it goes on counting
        ctypes.CDLL(None if built_in or found is None else found.origin).sqlite3_config(_MEMSTATUS, 0)


_count_no_memory()

import sqlite3  # noqa: E402
