"""Control groups: where they are, what is written to them, and what is left of them."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tesk.backends.local import cgroups
from tesk.backends.local.backend import notes
from tesk.backends.local.cgroups import CONTROLLERS, ControlGroups, Hierarchy, Limits, hierarchies, settings
from tesk.backends.local.engine import EngineUnavailable
from tesk.backends.local.sandbox.engine import Sandbox
from tesk.plan.model import ExecutorPlan, Plan, Resources

from .conftest import Runner

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / {top}/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc {top}/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / {top}/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / {top}/systemd rw,relatime - cgroup cgroup rw,name=systemd
"""
V1_MEMBER = "9:name=systemd:/user\n8:cpuacct,cpu:/user/one\n7:memory:/docker/abc/sub\n6:devices:/\n"
V2 = "31 23 0:28 / {top} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
EVERYTHING = Limits(2 * 10**9, 1.5, 100)


def test_each_controller_is_found_where_it_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "memory/sub").mkdir(parents=True)
    found = list(hierarchies(V1.format(top=tmp_path), V1_MEMBER))
    cpu = tmp_path / "cpu,cpuacct"  # where what we are in cannot be seen, we are at the top
    assert found == [
        Hierarchy(cpu, cpu, frozenset({"cpu"}), False),
        Hierarchy(tmp_path / "memory", tmp_path / "memory/sub", frozenset({"memory"}), False),
    ]


def test_a_unified_tree_has_what_it_says(tmp_path: Path) -> None:
    own = tmp_path / "user.slice/run.scope"
    own.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpuset memory pids\n")
    (own / "cgroup.controllers").write_text("pids\n")  # all others its parent keeps to itself
    found = list(hierarchies(V2.format(top=tmp_path), "0::/user.slice/run.scope\n"))
    assert found == [Hierarchy(tmp_path, own, frozenset({"memory", "pids"}), True)]


@pytest.mark.parametrize(
    ("limits", "controllers", "unified", "written"),
    [
        (
            EVERYTHING,
            CONTROLLERS,
            True,
            {"memory.max": "2000000000", "memory.swap.max": "0", "memory.oom.group": "1"}
            | {"cpu.max": "150000 100000", "pids.max": "100"},
        ),
        (
            EVERYTHING,
            CONTROLLERS,
            False,
            {"memory.limit_in_bytes": "2000000000", "memory.memsw.limit_in_bytes": "2000000000"}
            | {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000", "pids.max": "100"},
        ),
        (EVERYTHING, ("pids",), True, {"pids.max": "100"}),
        (Limits(), CONTROLLERS, True, {}),
        (
            Limits(1, 1e-9),  # less no program could live with
            ("memory", "cpu"),
            True,
            {"memory.max": str(6 << 20), "memory.swap.max": "0", "memory.oom.group": "1", "cpu.max": "1000 100000"},
        ),
    ],
)
def test_what_is_written(limits: Limits, controllers: tuple[str, ...], unified: bool, written: dict[str, str]) -> None:
    assert {name: value for name, value, _ in settings(limits, frozenset(controllers), unified=unified)} == written


def test_nothing_is_used_where_nothing_may_be_made(tmp_path: Path) -> None:
    """Neither in a tree that is read only for us nor in a directory that is no control group."""
    (tmp_path / "memory").mkdir()
    tree = Hierarchy(tmp_path / "memory", tmp_path / "memory", frozenset({"memory"}), False)
    groups = ControlGroups(tmp_path / "journal", "tesk-x")
    groups.start([tree])
    assert groups.controllers == frozenset()
    assert list((tmp_path / "memory").iterdir()) == []
    assert groups.make("one", Limits(10**9)).doors == []


def test_what_an_earlier_server_left_is_removed(tmp_path: Path) -> None:
    first = ControlGroups(tmp_path / "journal", "tesk-test-left")
    first.start()
    if not first.controllers:
        pytest.skip("this machine lets us use no control groups")
    doors = [Path(one).parent for one in first.make("ex", EVERYTHING).doors]
    assert doors
    assert all(one.is_dir() for one in doors)
    second = ControlGroups(tmp_path / "journal", "tesk-test-left")
    second.start()
    assert not any(one.exists() for one in doors)
    second.stop()
    assert not any(one.parent.exists() for one in doors)
    assert (tmp_path / "journal").read_text() == ""


AS_A_UNIT = """
import asyncio, os, sys
from pathlib import Path
from tesk.backends.local.sandbox.engine import Sandbox

async def serve(state, door):
    Path(door).write_text("0")
    sandbox = Sandbox(state)
    await sandbox.start()
    print(*sandbox.unheld, (state / "control-groups").read_text().splitlines()[-1])
    await sandbox.stop()

asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("subgroup", ["", "server"])
def test_a_server_alone_in_its_group_limits_executors_of_its_unit(tmp_path: Path, subgroup: str) -> None:
    """As systemd starts one with Delegate=yes; with DelegateSubgroup= too, and an earlier server's executor goes on."""
    above = ControlGroups(tmp_path / "journal", "tesk-test-unit")
    above.start()
    if not above.controllers or above.versions != "v2":
        pytest.skip("control groups of version 2 that we may use are not here (make test-unified brings them)")
    unit = above.make("unit", EVERYTHING)
    try:
        (door,) = unit.doors
        group = Path(door).parent
        groups = group / f"tesk-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
        if subgroup:
            (group / "cgroup.subtree_control").write_text("+memory +cpu +pids")
            groups.mkdir()
            (group / subgroup).mkdir()
        where = group / subgroup / "cgroup.procs"
        command = [sys.executable, "-c", AS_A_UNIT, str(tmp_path), str(where)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{groups}\n", "what executors are not held to, and where their groups are"
        if subgroup:
            assert (group / subgroup / "cgroup.subtree_control").read_text().strip() == "", "another can start there"
    finally:
        unit.remove()
        above.stop()


@pytest.fixture
async def unheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runner]:
    """A sandbox that may use no control group."""
    monkeypatch.setattr(cgroups, "hierarchies", lambda *_: iter(()))
    engine = Sandbox(tmp_path, pids=2000)
    try:
        await engine.start()
    except EngineUnavailable as error:
        pytest.skip(f"no sandbox here: {error}")
    yield Runner(engine, tmp_path)
    await engine.stop()


async def test_where_no_control_group_is_usable_each_process_is_limited(unheld: Runner) -> None:
    assert set(unheld.engine.unheld) == {"cpu_cores", "ram_gb", "local.pids"}
    job = unheld.job("sh", "-c", "ulimit -d; ulimit -u; python3 -c 'bytearray(300 << 20)'")
    plan = msgspec.structs.replace(job.plan, resources=Resources(ram_bytes=100 << 20))
    ran = await unheld.run(dataclasses.replace(job, plan=plan))
    assert ran.stdout.splitlines()[0] == str(100 << 10)
    assert "MemoryError" in ran.stderr
    assert ran.exit.exit_code == 1
    assert ran.exit.problem is None


async def test_users_are_told_what_of_the_declared_does_not_hold(unheld: Runner) -> None:
    said = notes(unheld.engine, Plan((ExecutorPlan("x", ("true",)),), resources=Resources(cpu_cores=1)))
    assert [one for one in said if one.startswith("cpu_cores is counted and not enforced")]
    assert not any("ram_gb" in one for one in said)
