"""Tasks, their bodies, attempts and tags, and the store's own facts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_Seq = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("seq", _Seq, primary_key=True, autoincrement=True),
        sa.Column("id", _Text, nullable=False),
        sa.Column("state", _Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("name", _Text),
        sa.Column("creation_time", _Text, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("tasks_id", "tasks", ["id"], unique=True)
    op.create_index("tasks_state", "tasks", ["state", "seq"])
    op.create_index("tasks_name", "tasks", [sa.text("substr(name, 1, 128)"), "seq"])
    op.create_index("tasks_ended", "tasks", ["ended_at"])
    op.create_table(
        "bodies",
        _of_task(),
        sa.Column("basic", sa.LargeBinary, nullable=False),
        sa.Column("full", sa.LargeBinary),
        sa.Column("plan", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "attempts",
        _of_task(),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("log_basic", sa.LargeBinary, nullable=False),
        sa.Column("log_full", sa.LargeBinary),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tags",
        _of_task(),
        sa.Column("key", _Text, primary_key=True),
        sa.Column("value", _Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("tags_value", "tags", ["key", "value", "seq"])
    op.create_table(
        "creations",
        sa.Column("key", _Text, primary_key=True),
        sa.Column("id", _Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("creations_created_at", "creations", ["created_at"])
    op.create_table(
        "meta",
        sa.Column("key", _Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    for table in ("meta", "creations", "tags", "attempts", "bodies", "tasks"):
        op.drop_table(table)


def _of_task() -> sa.Column[int]:
    return sa.Column("seq", _Seq, sa.ForeignKey("tasks.seq", ondelete="CASCADE"), primary_key=True)
