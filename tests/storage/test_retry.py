"""Tries are bounded and grow."""

from __future__ import annotations

import pytest

from tesk.storage.errors import StorageError
from tesk.storage.retry import Passing, Tries, retrying


def test_delays_double_with_jitter_and_end() -> None:
    tries = Tries(3, 1.0, jitter=lambda: 0.5)
    assert [tries.next_delay(None) for _ in range(5)] == [1.0, 2.0, 4.0, None, None]
    assert Tries(1, 1.0, jitter=lambda: 0.0).next_delay(None) == 0.5


def test_no_delay_is_longer_than_half_a_minute() -> None:
    tries = Tries(100, 1.0)
    assert max(tries.next_delay(10_000) or 0 for _ in range(100)) == 30


def test_the_server_may_ask_for_more_time() -> None:
    assert Tries(1, 0.1).next_delay(7) == 7


def test_progress_gives_new_tries() -> None:
    tries = Tries(1, 1.0, jitter=lambda: 0.5)
    assert tries.next_delay(None) == 1.0
    tries.renew()
    assert tries.next_delay(None) == 1.0
    assert tries.next_delay(None) is None


async def test_what_cannot_pass_is_raised_at_once() -> None:
    called = []

    async def attempt() -> None:
        called.append(1)
        raise StorageError("no")

    with pytest.raises(StorageError, match="no"):
        await retrying(attempt, Tries(5, 0.001))
    assert len(called) == 1


async def test_what_may_pass_is_tried_again_and_raised_as_itself_in_the_end() -> None:
    called = []

    async def attempt() -> None:
        called.append(1)
        raise Passing(StorageError(f"try {len(called)}"))

    with pytest.raises(StorageError, match="try 3"):
        await retrying(attempt, Tries(2, 0.001))
