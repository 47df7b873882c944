"""The budget of requests, the waits between tries, and their end."""

from __future__ import annotations

import pytest

from tesk.backends.kubernetes.pace import Backoff, Deadline, Pace


class Clock:
    """Time that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    clock = Clock()
    pace = Pace(10.0, 3, clock)
    assert [pace.reserve() for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])


def test_idle_time_gives_back_a_burst_and_no_more() -> None:
    clock = Clock()
    pace = Pace(10.0, 3, clock)
    for _ in range(5):
        pace.reserve()
    clock.now += 100
    assert [pace.reserve() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_rate_that_would_stand_still_is_refused() -> None:
    with pytest.raises(ValueError, match="qps"):
        Pace(0.0, 1)


def test_waits_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = Backoff(0.1, 1.0, jitter=lambda: 0.5)
    assert [backoff.next() for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])
    assert backoff.next(at_least=0.7) == pytest.approx(1.0)
    backoff.renew()
    assert backoff.next() == pytest.approx(0.1)
    backoff.renew()
    assert backoff.next(at_least=0.7) == pytest.approx(0.7)


def test_jitter_spreads_the_waits() -> None:
    early, late = Backoff(1.0, 9.0, jitter=lambda: 0.0), Backoff(1.0, 9.0, jitter=lambda: 1.0)
    assert (early.next(), late.next()) == (0.5, 1.5)


async def test_pause_that_would_pass_the_deadline_raises_at_once() -> None:
    clock = Clock()
    deadline = Deadline(5.0, clock=clock)
    with pytest.raises(LookupError):
        await deadline.pause(LookupError(), at_least=6.0)


async def test_once_means_once() -> None:
    with pytest.raises(LookupError):
        await Deadline(5.0, again=False).pause(LookupError())
