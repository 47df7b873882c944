"""Make the schema, or bring it to the newest revision."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from tesk.store.database import Database
from tesk.store.errors import StoreError
from tesk.store.schema import HEAD, metadata, version

__all__ = ["MIGRATIONS", "prepare", "upgrade"]

MIGRATIONS = Path(__file__).parent / "migrations"


def prepare(database: Database) -> None:
    """Make the schema in an empty database; migrate an older one.

    Several servers may do this at once. Raises StoreError when the database cannot be used, holds what tesk did not
    make, or was made by a newer tesk.
    """
    try:
        if _stamped(database) == HEAD:
            return
        engine = sa.create_engine(
            f"{database.dialect.name}+{database.dialect.driver}://",
            creator=lambda: database.connect(writing=True),
            poolclass=sa.NullPool,
        )
        with engine.begin() as connection:
            connection.exec_driver_sql(database.begin)
            if database.schema_lock is not None:
                connection.exec_driver_sql(database.schema_lock)
            _make_or_migrate(database, connection)
    except database.errors as error:
        raise database.explain(error) from error
    except sa.exc.DBAPIError as error:
        cause = error.orig if isinstance(error.orig, Exception) else error
        raise database.explain(cause) from error


def upgrade(database: Database, connection: sa.Connection) -> None:
    """Run every migration that is missing, in the transaction of `connection`.

    Raises StoreError when the database's revision is not among ours.
    """
    # Imported here: Alembic takes 0.25 s, and an up-to-date store opens without it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    found = _revision(connection)
    try:
        ScriptDirectory.from_config(config).get_revision(found or "base")
    except CommandError as error:
        raise StoreError(
            f"The database {database.place} has schema {found!r}, which this tesk does not know (it knows {HEAD!r}): "
            "run the newer tesk that made it, or name another database."
        ) from error
    command.upgrade(config, "head")


def _stamped(database: Database) -> str | None:
    """The revision, when it can be read; looked at more closely otherwise."""
    with closing(database.connect(writing=True)) as connection, closing(connection.cursor()) as cursor:
        try:
            row = cursor.execute("SELECT version_num FROM alembic_version").fetchone()
        except database.errors:
            return None
    return row[0] if row else None


def _make_or_migrate(database: Database, connection: sa.Connection) -> None:
    found = _revision(connection)
    if found == HEAD:
        return
    if found is not None:
        upgrade(database, connection)
        return
    there = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
    if there:
        raise StoreError(
            f"The database {database.place} has a table {there[0]!r} that tesk did not make: "
            "name an empty database for the store."
        )
    metadata.create_all(connection)
    version.create(connection, checkfirst=True)
    connection.execute(sa.insert(version).values(version_num=HEAD))


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(version.name):
        return None
    found: str | None = connection.scalar(sa.select(version.c.version_num))
    return found
