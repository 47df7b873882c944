"""How much disk an attempt takes, however its files are laid out."""

from __future__ import annotations

import asyncio
import os
from collections import namedtuple
from pathlib import Path

import pytest

from tesk.backends.local import disk
from tesk.backends.local.disk import DiskWatch, sizes
from tesk.backends.local.overuse import Overused, unless
from tesk.plan.model import ExecutorPlan, Plan, Resources

MEBIBYTE = 1 << 20


def plan(declared: int | None = None) -> Plan:
    return Plan((ExecutorPlan("x", ("true",)),), resources=Resources(disk_bytes=declared))


def fill(path: Path, size: int = MEBIBYTE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def total(root: Path) -> float:
    """In MiB."""
    return round(sum(sizes(root)) / MEBIBYTE, 1)


def test_every_file_counts_once_and_holes_do_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(root / "a/b/c")
    for number in range(3):
        (root / f"again-{number}").hardlink_to(root / "a/b/c")
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(root / "fifo")
    assert total(root) == 1.0


def test_links_are_not_followed(tmp_path: Path) -> None:
    fill(tmp_path / "outside/big")
    fill(tmp_path / "root/mine")
    (tmp_path / "root/out").symlink_to(tmp_path / "outside")
    (tmp_path / "root/round").symlink_to(".")
    (tmp_path / "root/file").symlink_to(tmp_path / "outside/big")
    assert total(tmp_path / "root") == 1.0
    assert list(sizes(tmp_path / "none")) == []


def test_what_is_deeper_than_any_path_counts(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    opened = os.open("big", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(opened, os.urandom(MEBIBYTE))
    os.close(opened)
    os.close(here)
    assert sum(sizes(tmp_path)) > MEBIBYTE


async def test_the_price_of_looking_does_not_grow_with_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "SLICE", 10)
    monkeypatch.setattr(disk, "PAUSE", 0.0)
    for number in range(500):
        (tmp_path / f"d-{number}").mkdir()
    watch = DiskWatch(tmp_path, None)
    looking = [asyncio.create_task(watch.overuse(plan(10**9), lambda: [tmp_path])) for _ in range(4)]
    begun = os.times()
    await asyncio.sleep(1)
    taken = os.times()
    for one in looking:
        one.cancel()
    assert (taken.user + taken.system) - (begun.user + begun.system) < 0.3


async def test_the_limit_is_the_declared_or_the_sites(tmp_path: Path) -> None:
    fill(tmp_path / "big", 2 * MEBIBYTE)
    watch = DiskWatch(tmp_path, MEBIBYTE)
    assert "(0.001 GB, its resources.disk_gb)" in await watch.overuse(plan(10**6), lambda: [tmp_path])
    assert "(0.00104858 GB, the most where" in await watch.overuse(plan(), lambda: [tmp_path])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await watch.overuse(plan(10**8), lambda: [tmp_path])


async def test_when_the_disk_is_nearly_full_the_one_farthest_beyond_its_word_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is told, not made: the machine's other tests need it."""
    monkeypatch.setattr(disk, "PAUSE", 0.01)
    for name, size in (("honest", 4), ("little", 1), ("much", 3)):
        fill(tmp_path / name / "file", size * MEBIBYTE)
    watch = DiskWatch(tmp_path, None)
    declared = {"honest": 10**8, "little": None, "much": None}
    looking = {
        name: asyncio.create_task(watch.overuse(plan(size), lambda name=name: [tmp_path / name]))  # type: ignore[misc]
        for name, size in declared.items()
    }
    async with asyncio.timeout(20):
        while len(watch._beyond) < len(looking):
            await asyncio.sleep(0.01)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**8, 10**8))
    await asyncio.sleep(0.3)
    assert not any(one.done() for one in looking.values()), "none of them has so much that its end would help"
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage(200 * MEBIBYTE, 199 * MEBIBYTE, MEBIBYTE))
    done, _ = await asyncio.wait(looking.values(), timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert looking["much"] in done
    assert "the disk is nearly full" in looking["much"].result()
    assert not looking["honest"].done()
    for one in looking.values():
        one.cancel()


async def test_work_that_ends_first_is_the_outcome() -> None:
    async def work(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return 5

    async def watch(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "too much"

    assert await unless(work(0), watch(5)) == 5
    with pytest.raises(Overused, match="too much"):
        await unless(work(5), watch(0))
    outer = asyncio.create_task(unless(work(5), watch(5)))
    await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert len(asyncio.all_tasks()) == 1
