"""The states of a TES task and how they may follow one another (TES 1.1.0, `tesState`)."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ACTIVE", "TERMINAL", "State", "predecessors"]


class State(StrEnum):
    """`tesState` of TES 1.1.0, in the order of the specification."""

    UNKNOWN = "UNKNOWN"
    QUEUED = "QUEUED"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETE = "COMPLETE"
    EXECUTOR_ERROR = "EXECUTOR_ERROR"
    SYSTEM_ERROR = "SYSTEM_ERROR"
    CANCELED = "CANCELED"
    PREEMPTED = "PREEMPTED"
    CANCELING = "CANCELING"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows this state."""
        return self in TERMINAL


TERMINAL = frozenset({State.COMPLETE, State.EXECUTOR_ERROR, State.SYSTEM_ERROR, State.CANCELED, State.PREEMPTED})
"""States that never change again. A preempted attempt that is retried sets the *task* to QUEUED instead."""

ACTIVE = frozenset({State.QUEUED, State.INITIALIZING, State.RUNNING, State.CANCELING})
"""States that TESK gives to a task that has not ended (it never sets UNKNOWN or PAUSED)."""

_ENDED_BY_ITSELF = frozenset({State.QUEUED, State.INITIALIZING, State.RUNNING})

_PREDECESSORS: dict[State, frozenset[State]] = {
    State.UNKNOWN: frozenset(),
    State.PAUSED: frozenset(),
    State.QUEUED: frozenset({State.INITIALIZING, State.RUNNING}),
    State.INITIALIZING: frozenset({State.QUEUED}),
    State.RUNNING: frozenset({State.QUEUED, State.INITIALIZING}),
    State.COMPLETE: _ENDED_BY_ITSELF,
    State.EXECUTOR_ERROR: _ENDED_BY_ITSELF,
    State.SYSTEM_ERROR: _ENDED_BY_ITSELF,
    State.PREEMPTED: _ENDED_BY_ITSELF,
    State.CANCELING: _ENDED_BY_ITSELF,
    State.CANCELED: frozenset({State.CANCELING}),
}


def predecessors(state: State) -> frozenset[State]:
    """The states from which a task may go to `state`.

    The specification names no transitions (TES 1.1.0 `tesState`); these are TESK's. Steps may be skipped, since a
    report replaces the one before it. QUEUED is entered again only by a new attempt; a terminal state never changes.
    """
    return _PREDECESSORS[state]
