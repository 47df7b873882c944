"""A house for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.controller.house import House

from tesk.store import Store


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(tmp_path / "tesk.db")
    made = House(store)
    yield made
    if made.controller is not None:
        await made.controller.stop()
    await store.close()
