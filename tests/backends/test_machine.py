"""Admission by declared resources."""

from __future__ import annotations

from pathlib import Path

from tesk.backends.local.machine import Admission, measure
from tesk.plan.model import Resources
from tesk.plan.site import Capacity

GB = 10**9


def test_what_is_taken_is_not_there_until_it_is_given_back() -> None:
    admission = Admission(Capacity(2, 4 * GB, 10 * GB))
    big = Resources(cpu_cores=1.5, ram_bytes=3 * GB)
    assert admission.take(big)
    assert not admission.take(Resources(cpu_cores=1))
    assert admission.take(Resources(cpu_cores=0.5))
    assert not admission.take(Resources(cpu_cores=0.1))
    admission.give_back(big)
    assert not admission.take(Resources(cpu_cores=1, ram_bytes=5 * GB))
    assert admission.take(Resources(cpu_cores=1.5, ram_bytes=4 * GB, disk_bytes=10 * GB))


def test_what_is_lacking_is_told_with_numbers() -> None:
    admission = Admission(Capacity(2, 4 * GB, None))
    assert admission.lacks(Resources(cpu_cores=2, ram_bytes=4 * GB, disk_bytes=GB)) is None
    assert admission.take(Resources(cpu_cores=1.5, ram_bytes=GB))
    assert admission.lacks(Resources(cpu_cores=1)) == "it needs 1 cpu cores, and 0.5 of 2 are free"
    assert admission.lacks(Resources(cpu_cores=0.1, ram_bytes=4 * GB)) == (
        "it needs 4 GB of memory, and 3 of 4 are free"
    )
    assert admission.lacks(Resources(cpu_cores=2, ram_bytes=4 * GB)) == (
        "it needs 2 cpu cores, and 0.5 of 2 are free; 4 GB of memory, and 3 of 4 are free"
    )


def test_a_refused_task_takes_nothing() -> None:
    admission = Admission(Capacity(4, 1 * GB, None))
    assert not admission.take(Resources(cpu_cores=4, ram_bytes=2 * GB))
    assert admission.take(Resources(cpu_cores=4))


def test_a_task_that_says_nothing_counts_as_one_core_and_still_gets_a_small_machine() -> None:
    admission = Admission(Capacity(2))
    assert [admission.take(Resources()) for _ in range(3)] == [True, True, False]
    assert Admission(Capacity(0.5)).take(Resources())


def test_fractions_add_up_without_drift() -> None:
    admission = Admission(Capacity(1))
    tenth = Resources(cpu_cores=0.1)
    for _ in range(1000):
        assert all(admission.take(tenth) for _ in range(10))
        assert not admission.take(tenth)
        for _ in range(10):
            admission.give_back(tenth)


def test_the_machine_is_measured(tmp_path: Path) -> None:
    found = measure(tmp_path)
    assert found.cpu_cores
    assert found.cpu_cores >= 1
    assert found.ram_bytes
    assert found.ram_bytes > 100 << 20
    assert found.disk_bytes
    assert found.disk_bytes > 0
