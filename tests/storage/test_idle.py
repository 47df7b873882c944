"""Kept sessions: the last one first, and not more than so many."""

from __future__ import annotations

from tesk.storage.idle import Idle


class Session:
    def __init__(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False


def test_the_last_one_comes_first_and_only_to_who_asks_for_it() -> None:
    idle: Idle[str, Session] = Idle()
    first, second, other = Session(), Session(), Session()
    for key, one in (("a", first), ("a", second), ("b", other)):
        idle.put(key, one)
    assert idle.take("a") is second
    assert idle.take("a") is first
    assert idle.take("a") is None
    idle.close()
    assert (first.open, second.open, other.open) == (True, True, False)
    assert idle.take("b") is None


def test_however_many_servers_there_are_few_sessions_are_kept() -> None:
    idle: Idle[int, Session] = Idle(3)
    made = [Session() for _ in range(10)]
    for key, one in enumerate(made):
        idle.put(key, one)
    assert [one.open for one in made] == [False] * 7 + [True] * 3
    assert idle.take(0) is None
    assert idle.take(7) is made[7]
