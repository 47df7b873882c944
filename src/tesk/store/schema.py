"""The tables of the store. A change here is a new numbered migration and a new `HEAD`."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = ["HEAD", "NAME_START", "attempts", "bodies", "creations", "meta", "metadata", "tags", "tasks", "version"]

HEAD = "0001"
"""The newest migration: what `metadata` describes (a test compares the two)."""

metadata = sa.MetaData()

# Bytewise order on both databases, so that a prefix is a range of an index whatever the database's locale.
_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_Seq = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

NAME_START = "substr(name, 1, 128)"
"""What of a name is indexed: PostgreSQL refuses index entries above 2.7 kB."""

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("seq", _Seq, primary_key=True, autoincrement=True),
    sa.Column("id", _Text, nullable=False),
    sa.Column("state", _Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("name", _Text),
    sa.Column("creation_time", _Text, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Index("tasks_id", "id", unique=True),
    sa.Index("tasks_state", "state", "seq"),
    sa.Index("tasks_name", sa.text(NAME_START), "seq"),
    sa.Index("tasks_ended", "ended_at"),
    sqlite_autoincrement=True,
)
"""One row a task. `seq` is the order of creation and is never used again; `attempt` counts from 1; `ended_at` is in
milliseconds since 1970, null until the state is terminal."""


def _of_task() -> sa.Column[int]:
    return sa.Column("seq", _Seq, sa.ForeignKey("tasks.seq", ondelete="CASCADE"), primary_key=True)


creations = sa.Table(
    "creations",
    metadata,
    sa.Column("key", _Text, primary_key=True),
    sa.Column("id", _Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("creations_created_at", "created_at"),
    sqlite_with_rowid=False,
)
"""Which task was created under a client's key; kept for a day, also when the task is removed earlier. `created_at` is
in milliseconds since 1970."""

bodies = sa.Table(
    "bodies",
    metadata,
    _of_task(),
    sa.Column("basic", sa.LargeBinary, nullable=False),
    sa.Column("full", sa.LargeBinary),
    sa.Column("plan", sa.LargeBinary, nullable=False),
)
"""A task's JSON without `id`, `state` and `logs`: the members of the object, without its braces, each after a
comma; `full` is null where it equals `basic`. Apart from `tasks`, so that lists in the MINIMAL view never read it."""

attempts = sa.Table(
    "attempts",
    metadata,
    _of_task(),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("log_basic", sa.LargeBinary, nullable=False),
    sa.Column("log_full", sa.LargeBinary),
    sqlite_with_rowid=False,
)
"""One tesTaskLog as JSON for each attempt of which something is known; `log_full` is null where it equals
`log_basic`."""

tags = sa.Table(
    "tags",
    metadata,
    _of_task(),
    sa.Column("key", _Text, primary_key=True),
    sa.Column("value", _Text, nullable=False),
    sa.Index("tags_value", "key", "value", "seq"),
    sqlite_with_rowid=False,
)
"""What tag filters look at (see `terms.tag_term`); the tags themselves are in the body."""

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", _Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
"""Facts of the store itself, such as the secret of page tokens."""

version = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, here so that an up-to-date store opens without importing Alembic (0.25 s)."""
