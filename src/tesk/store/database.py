"""The two databases behind the store: how to connect, and what their errors mean.

Connections are plain DB-API connections in autocommit mode with explicit BEGIN and COMMIT, so that both databases (and
both drivers) do exactly what the SQL says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from tesk.store.errors import StoreError, Unstorable
from tesk.store.sqlite import sqlite3

__all__ = ["Connection", "Cursor", "Database", "database_at"]

_BUSY_SECONDS = 10
_CONNECT_SECONDS = 10
_STATEMENT_SECONDS = 30


class Cursor(Protocol):
    """What the store uses of a DB-API cursor."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, sql: str, parameters: Mapping[str, Any] = ..., /) -> Any: ...
    def executemany(self, sql: str, parameters: list[Mapping[str, Any]], /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...
    def close(self) -> None: ...


class Connection(Protocol):
    """What the store uses of a DB-API connection."""

    def cursor(self) -> Any: ...
    def close(self) -> None: ...


class Database(Protocol):
    """One place where tasks are kept."""

    @property
    def place(self) -> str:
        """How messages call it; never with a password."""

    @property
    def dialect(self) -> sa.Dialect:
        """SQLAlchemy's dialect, with named parameters."""

    @property
    def begin(self) -> str:
        """The statement that begins a writing transaction."""

    @property
    def schema_lock(self) -> str | None:
        """The statement that keeps other servers from changing the schema until the transaction ends, where `begin`
        does not do so already."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises."""

    @property
    def near(self) -> bool:
        """Whether it is in this process, so that a row is found sooner than a thread is woken."""

    @property
    def readers(self) -> int:
        """How many threads read best."""

    def connect(self, *, writing: bool, waiting: bool = True) -> Connection:
        """Open a connection in autocommit mode; one that is not `waiting` raises at once where there is a lock.

        Raises StoreError when the database cannot be reached.
        """

    def lost(self, connection: Connection) -> bool:
        """Whether `connection` is known to be gone."""

    def retryable(self, error: Exception) -> bool:
        """Whether a transaction that failed before its COMMIT may succeed when it is tried again: a deadlock among
        servers, a connection that was cut."""

    def explain(self, error: Exception) -> StoreError:
        """The driver's error as one sentence for whoever runs the server; Unstorable for what it refuses to keep."""


def database_at(url_or_path: str | Path) -> Database:
    """The database that `url_or_path` names: a file's path, or a `sqlite:///` or `postgresql://` URL.

    Raises StoreError for any other URL and when the driver for it is not installed.
    """
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return SqliteDatabase(Path(url_or_path))
    try:
        url = sa.make_url(url_or_path)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise StoreError(
            "The store's database URL cannot be read: write sqlite:////path/to/tesk.db "
            "or postgresql://user:password@host/database."
        ) from error
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return SqliteDatabase(Path(url.database or ":memory:"))
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return PostgresDatabase(url.set(drivername="postgresql+psycopg"))
    raise StoreError(
        f"The store cannot use {url.drivername}: give a file's path, sqlite:///… or postgresql://… instead."
    )


class SqliteDatabase:
    """One file in WAL mode, that several processes may share."""

    begin = "BEGIN IMMEDIATE"
    near = True
    readers = 2
    schema_lock: str | None = None
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: Path) -> None:
        if str(path) == ":memory:":
            raise StoreError("The store cannot live in memory alone: give it a file's path.")
        self._path = path.absolute()
        self.place = str(self._path)
        from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

        self.dialect: sa.Dialect = SQLiteDialect_pysqlite(paramstyle="named")

    def connect(self, *, writing: bool, waiting: bool = True) -> Connection:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise self.explain(error) from error
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            if not writing:
                connection.execute("PRAGMA query_only=ON")
            if not waiting:
                connection.execute("PRAGMA busy_timeout=0")
        except sqlite3.Error as error:
            connection.close()
            raise self.explain(error) from error
        return connection

    def lost(self, connection: Connection) -> bool:
        return False

    def retryable(self, error: Exception) -> bool:
        return False

    def explain(self, error: Exception) -> StoreError:
        text = str(error)
        if "locked" in text:
            return StoreError(
                f"The database {self.place} has been locked by another process for {_BUSY_SECONDS} s: "
                "find what holds it open (fuser, lsof) and end it."
            )
        if isinstance(error, (sqlite3.DataError, sqlite3.IntegrityError)):
            return _unstorable(self.place, text)
        if "not a database" in text:
            return StoreError(f"The file {self.place} is not an SQLite database: name another file for the store.")
        return StoreError(
            f"The database {self.place} cannot be used ({text}): "
            "check that its directory exists, is writable and has room."
        )


class PostgresDatabase:
    """A PostgreSQL database, that several servers may share."""

    begin = "BEGIN"
    near = False
    readers = 2
    schema_lock: str | None = "SELECT pg_advisory_xact_lock(7883955)"

    def __init__(self, url: sa.URL) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise StoreError(
                "A store in PostgreSQL needs the driver psycopg: pip install 'tesk[postgresql]'."
            ) from error
        from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

        self._psycopg = psycopg
        self.errors: tuple[type[Exception], ...] = (psycopg.Error,)
        self.dialect: sa.Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
        self.place = url.set(drivername="postgresql").render_as_string(hide_password=True)
        self._arguments: dict[str, Any] = {
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "tesk",
            **self.dialect.create_connect_args(url)[1],  # type: ignore[no-untyped-call]
        }

    def connect(self, *, writing: bool, waiting: bool = True) -> Connection:
        try:
            connection = self._psycopg.connect(autocommit=True, **self._arguments)
        except self._psycopg.Error as error:
            raise self.explain(error) from error
        try:
            connection.execute(f"SET statement_timeout = '{_STATEMENT_SECONDS}s'")
            connection.execute(f"SET default_transaction_read_only = {'off' if writing else 'on'}")
        except self._psycopg.Error as error:
            connection.close()
            raise self.explain(error) from error
        return connection

    def lost(self, connection: Connection) -> bool:
        return bool(getattr(connection, "closed", False))

    def retryable(self, error: Exception) -> bool:
        state = getattr(error, "sqlstate", None)
        if state is None:  # no answer came at all
            return isinstance(error, self._psycopg.OperationalError)
        return state in ("40001", "40P01", "57P01", "57P02") or state.startswith("08")

    def explain(self, error: Exception) -> StoreError:
        text = " ".join(str(error).split())
        state = getattr(error, "sqlstate", None) or ""
        # 54: a limit of PostgreSQL itself, such as the largest row of an index
        if isinstance(error, (self._psycopg.DataError, self._psycopg.IntegrityError)) or state.startswith("54"):
            return _unstorable(self.place, text)
        if state == "57014":
            return StoreError(
                f"The database {self.place} took more than {_STATEMENT_SECONDS} s for one statement: "
                "look for what locks its tables or slows it down."
            )
        return StoreError(f"The database {self.place} cannot be used ({text}): check that it runs and lets tesk in.")


def _unstorable(place: str, text: str) -> Unstorable:
    return Unstorable(f"The database {place} refuses what tesk would store ({text}): this is an error of tesk itself.")
