"""What Alembic runs: the steps, on the connection it is given (see `tesk.store.migrate`)."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
