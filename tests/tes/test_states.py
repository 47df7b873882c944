"""Which state may follow which: the whole table, as a picture."""

from __future__ import annotations

import pytest

from tesk.tes.states import ACTIVE, TERMINAL, State, predecessors

LEGAL = {
    State.UNKNOWN: "",
    State.QUEUED: "INITIALIZING RUNNING COMPLETE EXECUTOR_ERROR SYSTEM_ERROR PREEMPTED CANCELING",
    State.INITIALIZING: "QUEUED RUNNING COMPLETE EXECUTOR_ERROR SYSTEM_ERROR PREEMPTED CANCELING",
    State.RUNNING: "QUEUED COMPLETE EXECUTOR_ERROR SYSTEM_ERROR PREEMPTED CANCELING",
    State.PAUSED: "",
    State.COMPLETE: "",
    State.EXECUTOR_ERROR: "",
    State.SYSTEM_ERROR: "",
    State.CANCELED: "",
    State.PREEMPTED: "",
    State.CANCELING: "CANCELED",
}
"""From each state (left) the states that may follow it."""


@pytest.mark.parametrize("after", State)
@pytest.mark.parametrize("before", State)
def test_transition_is_legal_exactly_where_the_table_says_so(before: State, after: State) -> None:
    assert (before in predecessors(after)) == (after.value in LEGAL[before].split())


def test_a_terminal_state_never_changes() -> None:
    assert not any(before in predecessors(after) for before in TERMINAL for after in State)


def test_only_a_canceling_task_becomes_canceled() -> None:
    assert predecessors(State.CANCELED) == {State.CANCELING}


@pytest.mark.parametrize("before", sorted(ACTIVE))
def test_every_active_state_can_reach_an_end(before: State) -> None:
    reached, todo = set(), [before]
    while todo:
        here = todo.pop()
        following = {after for after in State if here in predecessors(after)} - reached
        reached |= following
        todo.extend(following)
    assert reached & TERMINAL


def test_terminal_and_active_states_are_apart_and_cover_all_that_tesk_sets() -> None:
    assert not TERMINAL & ACTIVE
    assert set(State) - TERMINAL - ACTIVE == {State.UNKNOWN, State.PAUSED}
    assert [state for state in State if state.terminal] == [state for state in State if state in TERMINAL]
