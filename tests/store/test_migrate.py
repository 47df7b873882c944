"""How a store comes into being, and what is said when it cannot."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from tests.postgres import PostgresServer
from tests.store.tasks import new_task

from tesk.store import Query, Store, StoreError
from tesk.store import migrate as migrate_module
from tesk.store.database import Database, database_at
from tesk.store.migrate import prepare
from tesk.store.schema import HEAD


def connected(database: Database) -> sa.Engine:
    return sa.create_engine(
        f"{database.dialect.name}+{database.dialect.driver}://",
        creator=lambda: database.connect(writing=True),
        poolclass=sa.NullPool,
    )


def described(database: Database) -> dict[str, Any]:
    """Everything that the database says of its schema."""
    with connected(database).connect() as connection:
        if database.dialect.name == "sqlite":
            rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master").fetchall()
            return {name: sql and " ".join(sql.split()) for name, sql in rows}
        columns = connection.exec_driver_sql(
            "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name, is_identity "
            "FROM information_schema.columns WHERE table_schema = current_schema()"
        )
        indexes = connection.exec_driver_sql(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
        )
        constraints = connection.exec_driver_sql(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = current_schema()::regnamespace"
        )
        return {
            "columns": {tuple(row) for row in columns},
            "indexes": {tuple(row) for row in indexes},
            "constraints": {tuple(row) for row in constraints},
        }


def test_the_migrations_make_the_same_schema_as_a_new_store(place: str) -> None:
    database = database_at(place)
    prepare(database)
    made = described(database)
    assert made
    with connected(database).begin() as connection:
        connection.exec_driver_sql(database.begin)
        for table in ("meta", "creations", "tags", "attempts", "bodies", "tasks", "alembic_version"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    assert "tasks" not in str(described(database))
    with connected(database).begin() as connection:
        connection.exec_driver_sql(database.begin)
        migrate_module.upgrade(database, connection)
    migrated = described(database)
    with connected(database).connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == HEAD
    assert migrated == made


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate_module.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.create_table("later", sa.Column("key", sa.Text, primary_key=True))
    {more}
"""


def a_newer_tesk(directory: Path, monkeypatch: pytest.MonkeyPatch, *, more: str = "") -> None:
    """Add a second migration, as a newer release would have it."""
    migrations = directory / "100% newer migrations"
    shutil.copytree(migrate_module.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    (migrations / "versions" / "0002_later.py").write_text(SECOND.format(more=more))
    monkeypatch.setattr(migrate_module, "MIGRATIONS", migrations)
    monkeypatch.setattr(migrate_module, "HEAD", "0002")


async def test_an_older_schema_is_migrated_and_keeps_its_tasks(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(place)
    await store.create(new_task("old"))
    await store.close()
    a_newer_tesk(tmp_path, monkeypatch)
    store = await Store.open(place)
    assert await store.get("old") == b'{"id":"old","state":"QUEUED"}'
    await store.close()
    with connected(database_at(place)).connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0002"
        assert sa.inspect(connection).has_table("later")


async def test_a_migration_that_fails_changes_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Store.open(place)).close()
    with monkeypatch.context() as patch:
        a_newer_tesk(tmp_path, patch, more="op.execute('SELECT nonsense')")
        with pytest.raises(StoreError, match="nonsense"):
            await Store.open(place)
    with connected(database_at(place)).connect() as connection:
        assert not sa.inspect(connection).has_table("later")
    await (await Store.open(place)).close()


async def test_a_schema_from_a_newer_tesk_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        await (await Store.open(place)).close()
        a_newer_tesk(tmp_path, patch)
        await (await Store.open(place)).close()
    with pytest.raises(StoreError, match=r"has schema '0002', which this tesk does not know.*newer tesk"):
        await Store.open(place)


async def test_somebody_elses_tables_are_refused(place: str) -> None:
    database = database_at(place)
    with connected(database).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE tasks (what TEXT)")
    with pytest.raises(StoreError, match="has a table 'tasks' that tesk did not make"):
        await Store.open(place)


async def test_servers_that_start_together_make_one_schema(place: str) -> None:
    stores = await asyncio.gather(*(Store.open(place, readers=1) for _ in range(4)))
    for number, store in enumerate(stores):
        await store.create(new_task(f"t{number}"))
    secrets = {await store.secret() for store in stores}
    assert len(secrets) == 1
    assert len(secrets.pop()) == 32
    for store in stores:
        assert (await store.page(Query())).tasks.count(b"QUEUED") == 4
        await store.close()


@pytest.mark.slow
def test_an_up_to_date_store_opens_without_alembic(place: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from tesk.store import Store\n"
        "async def main():\n"
        "    await (await Store.open(sys.argv[1])).close()\n"
        "asyncio.run(main())\n"
        "assert 'sqlalchemy' in sys.modules\n"
        "assert 'alembic' not in sys.modules\n"
    )
    for _ in ("new", "there"):
        subprocess.run([sys.executable, "-c", program, place], check=True, timeout=60)


async def test_the_directory_of_the_store_is_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = await Store.open(tmp_path / "a" / "b" / "tesk.db")
    finally:
        os.umask(before)
    await store.close()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


async def test_sqlite_is_named_by_path_or_url(tmp_path: Path) -> None:
    path = tmp_path / "tesk.db"
    store = await Store.open(f"sqlite:///{path}")
    await store.create(new_task("one"))
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM tasks").fetchall() == [("one",)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_postgresql_is_named_with_or_without_its_driver(postgresql: PostgresServer) -> None:
    url = postgresql.new_database()
    for scheme in ("postgresql://", "postgres://", "postgresql+psycopg://"):
        store = await Store.open(url.replace("postgresql://", scheme))
        assert store.place.startswith("postgresql://")
        await store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", "cannot use mysql"),
        ("://", "database URL cannot be read"),
        ("sqlite://", "cannot live in memory"),
    ],
)
async def test_another_database_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        await Store.open(url)


async def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'tesk\[postgresql\]'"):
        await Store.open("postgresql://host/db")


async def test_a_postgresql_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used") as caught:
        await Store.open(f"postgresql://me:secret-word@/db?host={tmp_path}")
    assert "me:***@" in str(caught.value)
    assert "secret-word" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but a page of notes\n" * 200)
    with pytest.raises(StoreError, match=r"notes\.txt is not an SQLite database"):
        await Store.open(path)
    assert path.read_text().startswith("not a database")


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/tesk\.db cannot be used"):
        await Store.open(tmp_path / "file" / "tesk.db")
