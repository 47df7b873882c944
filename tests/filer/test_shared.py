"""Shared storage is made ready for executors, and left as it should be."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tesk.filer import TransferError, leave_shared, prepare_shared
from tesk.plan.model import ExecutorPlan, Mount, Place, Plan, SharedMount, Transfer

GENOME = Transfer("/work/genome", "FILE", "/ref/g", name="the genome")
PLAN = Plan(
    executors=(ExecutorPlan("x", ("true",)),),
    mounts=(Mount("/work/said", "FILE"), Mount("/work/some/words")),
    shared=(
        SharedMount("/work", Place("work", "runs/1")),
        SharedMount("/work/genome", Place("ref", "g"), "FILE", read_only=True),
    ),
    shared_inputs=(GENOME,),
    shared_directories=("/work", "/work/out/deep"),
)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("work", "ref")}
    for one in found.values():
        one.mkdir()
    (found["ref"] / "g").write_text("ACGT")
    return found


def there(below: Path) -> dict[str, str]:
    """path: mode of everything."""
    return {str(one.relative_to(below)): oct(stat.S_IMODE(one.stat().st_mode)) for one in below.rglob("*")}


MADE = {"runs": "0o777", "runs/1": "0o777", "runs/1/out": "0o777", "runs/1/out/deep": "0o777", "runs/1/some": "0o777"}


def test_directories_and_mount_points_are_made_and_the_points_go_again(roots: dict[str, Path]) -> None:
    for _ in range(2):  # a taskmaster that was killed has a successor
        prepare_shared(PLAN, roots)
        points = {"runs/1/genome": "0o0", "runs/1/said": "0o0", "runs/1/some/words": "0o0"}
        assert there(roots["work"]) == MADE | points
    for _ in range(2):
        leave_shared(PLAN, roots)
        assert there(roots["work"]) == MADE


def test_what_was_there_stays(roots: dict[str, Path]) -> None:
    here = roots["work"] / "runs/1"
    (here / "some/words").mkdir(parents=True)
    here.chmod(0o750)
    (here / "said").touch()
    (here / "genome").write_text("of somebody else")
    prepare_shared(PLAN, roots)
    leave_shared(PLAN, roots)
    assert (here / "genome").read_text() == "of somebody else"
    assert {"said", "some/words", "genome"} <= set(there(here))
    assert stat.S_IMODE(here.stat().st_mode) == 0o750


def test_inputs_that_are_not_there_are_told_before_anything_is_made(roots: dict[str, Path]) -> None:
    (roots["ref"] / "g").unlink()
    with pytest.raises(TransferError, match=r"input 'the genome' \(/work/genome\): /ref/g does not exist"):
        prepare_shared(PLAN, roots)
    (roots["ref"] / "g").mkdir()
    with pytest.raises(TransferError, match="is a directory, and the input's type is FILE"):
        prepare_shared(PLAN, roots)
    assert there(roots["work"]) == {}


def test_what_cannot_be_made_is_told(roots: dict[str, Path]) -> None:
    (roots["work"] / "runs").write_text("in the way")
    with pytest.raises(
        TransferError, match=r"the directory /work, runs/1 of the shared storage 'work', cannot be made"
    ):
        prepare_shared(PLAN, roots)


def test_no_directory_is_made_outside_of_the_storage(roots: dict[str, Path], tmp_path: Path) -> None:
    (roots["work"] / "runs").symlink_to(tmp_path)
    (tmp_path / "1").mkdir()
    with pytest.raises(TransferError):
        prepare_shared(PLAN, roots)
    assert there(tmp_path / "1") == {}
