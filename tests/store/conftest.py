"""One suite over both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.postgres import PostgresServer, postgresql  # noqa: F401 - a fixture

from tesk.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store can be made: nothing is there yet."""
    if request.param == "sqlite":
        yield str(tmp_path / "state" / "tesk.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgresql")
        yield server.new_database()


@pytest.fixture
async def store(place: str) -> AsyncIterator[Store]:
    """An open store without tasks."""
    opened = await Store.open(place)
    yield opened
    await opened.close()
