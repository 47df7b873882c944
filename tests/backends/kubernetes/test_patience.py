"""How long a step may wait, by a clock of the test's own."""

from __future__ import annotations

import pytest

from tesk.backends.kubernetes.observation import Waiting
from tesk.backends.kubernetes.patience import EXPLAIN_AFTER, Patience
from tesk.taskmaster.steps import StepFailed

BUSY = Waiting("no node has enough cpu", curable=True)
IMAGE = Waiting("image 'a' cannot be pulled", curable=False)
USUAL = Waiting("its pod begins", curable=False, usual=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.notes: list[str] = []
        self.shown: list[str | None] = []

    def patience(self, start: float = 60.0, queue: float | None = None) -> Patience:
        return Patience(
            "stage-in",
            self.notes.append,
            start_timeout=start,
            queue_timeout=queue,
            show=self.shown.append,
            clock=lambda: self.now,
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_waiting_cannot_cure_ends_after_start_timeout(clock: Clock) -> None:
    patience = clock.patience(start=60.0)
    patience.wait(IMAGE)
    clock.now += 59.9
    patience.wait(IMAGE)
    clock.now += 0.2
    with pytest.raises(StepFailed, match="stage-in could not start within 60 s: image 'a' cannot be pulled"):
        patience.wait(IMAGE)


def test_a_busy_cluster_is_waited_for_as_long_as_it_takes(clock: Clock) -> None:
    patience = clock.patience(start=1.0)
    for _ in range(5):
        patience.wait(BUSY)
        clock.now += 1e6


def test_queue_timeout_bounds_what_waiting_can_cure(clock: Clock) -> None:
    patience = clock.patience(queue=100.0)
    patience.wait(BUSY)
    clock.now += 100.0
    with pytest.raises(StepFailed, match="within 100 s: no node has enough cpu"):
        patience.wait(BUSY)


def test_time_in_the_queue_is_no_time_of_the_start(clock: Clock) -> None:
    patience = clock.patience(start=60.0)
    patience.wait(IMAGE)
    clock.now += 50.0
    patience.wait(BUSY)
    clock.now += 50.0
    patience.wait(IMAGE)
    clock.now += 50.0
    patience.wait(IMAGE)


def test_another_sentence_does_not_begin_the_time_anew(clock: Clock) -> None:
    patience = clock.patience(start=60.0)
    patience.wait(IMAGE)
    clock.now += 30.0
    patience.wait(USUAL)
    clock.now += 30.0
    with pytest.raises(StepFailed):
        patience.wait(IMAGE)


def test_what_runs_has_all_its_time_again(clock: Clock) -> None:
    patience = clock.patience(start=60.0)
    patience.wait(IMAGE)
    patience.renew()
    clock.now += 100.0
    patience.wait(IMAGE)


def test_a_reason_is_told_once_after_three_seconds(clock: Clock) -> None:
    patience = clock.patience()
    patience.wait(IMAGE)
    assert clock.notes == []
    for _ in range(3):
        clock.now += 3.0
        patience.wait(IMAGE)
    assert clock.notes == ["stage-in waits: image 'a' cannot be pulled"]


def test_what_every_step_passes_through_is_not_told(clock: Clock) -> None:
    patience = clock.patience()
    patience.wait(USUAL)
    clock.now += 30.0
    patience.wait(USUAL)
    assert clock.notes == []


def test_reasons_that_change_all_the_time_do_not_grow_without_bound(clock: Clock) -> None:
    patience = clock.patience(start=1e9)
    for number in range(100):
        for _ in range(2):
            patience.wait(Waiting(f"reason {number}", curable=False))
            clock.now += 3.0
    assert len(clock.notes) == 8


def test_it_wakes_to_show_it_to_look_into_it_and_tell_it_and_to_end_it(clock: Clock) -> None:
    patience = clock.patience(start=60.0)
    waits = []
    for _ in range(3):
        waits.append(patience.wait(IMAGE))
        clock.now += waits[-1]
    assert waits == pytest.approx([1.5, EXPLAIN_AFTER - 1.5, 57.0], abs=0.05)
    with pytest.raises(StepFailed):
        patience.wait(IMAGE)


def test_what_is_usual_does_not_begin_the_time_of_a_fault_anew(clock: Clock) -> None:
    patience = clock.patience(start=10.0)
    begins = Waiting("its pod begins", curable=True, usual=True)
    for _ in range(2):
        patience.wait(IMAGE)
        clock.now += 3.0
        patience.wait(begins)
        clock.now += 3.0
    with pytest.raises(StepFailed, match="image 'a' cannot be pulled"):
        patience.wait(IMAGE)


def test_the_present_reason_is_shown_soon_and_what_is_usual_later(clock: Clock) -> None:
    patience = clock.patience()
    patience.wait(BUSY)
    assert clock.shown == []
    clock.now += 1.51
    patience.wait(BUSY)
    patience.wait(USUAL)
    clock.now += 9.9
    patience.wait(USUAL)
    assert clock.shown == [f"stage-in waits: {BUSY.sentence}"]
    clock.now += 0.2
    patience.wait(USUAL)
    patience.renew()
    patience.renew()
    assert clock.shown[1:] == [f"stage-in waits: {USUAL.sentence}", None]
