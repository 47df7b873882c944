"""Memory is lent in order and never more than there is."""

from __future__ import annotations

import asyncio

import pytest

from tesk.storage import StorageOptions
from tesk.storage.budget import Budget


async def test_never_more_is_lent_than_there_is_and_all_get_their_turn() -> None:
    budget, held, most, order = Budget(10), 0, 0, []

    async def take(size: int) -> None:
        nonlocal held, most
        async with budget.lent(size):
            order.append(size)
            held += min(size, 10)
            most = max(most, held)
            await asyncio.sleep(0.001)
            held -= min(size, 10)

    sizes = [4, 4, 9, 1, 100, 3, 3, 3, 3]
    await asyncio.wait_for(asyncio.gather(*map(take, sizes)), 5)
    assert most == 10
    assert order == sizes


async def test_what_a_cancelled_one_waited_for_goes_to_the_next() -> None:
    budget = Budget(10)
    async with budget.lent(10):
        waiting = asyncio.ensure_future(budget.lent(5).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(1), budget.lent(10):
        pass


@pytest.mark.parametrize("parallelism", [1, 8, 64, 1024])
def test_the_blocks_of_all_transfers_fit_into_the_memory_for_them(parallelism: int) -> None:
    options = StorageOptions(parallelism=parallelism)
    assert 65536 <= options.block <= 1 << 20
    assert options.block * parallelism <= options.memory
