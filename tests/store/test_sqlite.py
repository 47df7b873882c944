from __future__ import annotations

import _sqlite3
import ctypes

from tesk.store.sqlite import sqlite3


def test_sqlite_counts_no_memory() -> None:
    library = ctypes.CDLL(_sqlite3.__file__)
    used = library.sqlite3_memory_used
    used.restype = ctypes.c_int64
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE one (text)")
        assert used() == 0
    connection.close()
