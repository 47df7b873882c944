"""The command line of podman and docker; what containers do is in tests/behaviour."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tesk.backends.base import AttemptKey
from tesk.backends.local.engine import Job, Space
from tesk.backends.local.oci import run_arguments
from tesk.backends.local.podman import Podman
from tesk.plan.model import ExecutorPlan, Mount, Plan, Resources


def arguments(executor: ExecutorPlan, *mounts: Mount, resources: Resources | None = None) -> list[str]:
    plan = Plan(executors=(executor,), mounts=mounts, resources=resources or Resources())
    job = Job(AttemptKey("task-x", 2), 0, plan, Space(Path("/state/attempts/a")))
    return run_arguments(job, "tesk.state=/state")


def test_command_follows_the_image_word_by_word() -> None:
    made = arguments(ExecutorPlan("img:1", ("-x", "--rm", "a b", "")))
    assert made[-5:] == ["img:1", "-x", "--rm", "a b", ""]
    assert "--entrypoint=" in made
    assert "--interactive" not in made


def test_what_is_mounted_can_be_read_also_where_selinux_labels_it() -> None:
    assert "--security-opt=label=disable" in arguments(ExecutorPlan("img", ("true",)))


def test_names_and_labels_are_those_of_the_attempt() -> None:
    made = arguments(ExecutorPlan("img", ("true",)))
    assert "--name=tesk-task-x-a2-ex-00" in made
    assert "--label=tesk.state=/state" in made
    assert "--label=tesk.attempt=2" in made


def test_mounts_survive_the_commas_and_quotes_of_paths() -> None:
    made = arguments(ExecutorPlan("img", ("true",)), Mount('/da,ta/"x"'), Mount("/etc/one", "FILE", True))
    mounts = [next(csv.reader([one.removeprefix("--mount=")])) for one in made if one.startswith("--mount=")]
    assert mounts == [
        ["type=bind", 'source=/state/attempts/a/scratch/da,ta/"x"', 'destination=/da,ta/"x"'],
        ["type=bind", "source=/state/attempts/a/scratch/etc/one", "destination=/etc/one", "ro"],
    ]


def test_limits_are_the_declared_ones() -> None:
    made = arguments(ExecutorPlan("img", ("true",)), resources=Resources(cpu_cores=1.5, ram_bytes=2 * 10**9))
    assert "--cpus=1.5" in made
    assert "--memory=2000000000b" in made
    assert not any(one.startswith(("--cpus", "--memory")) for one in arguments(ExecutorPlan("img", ("true",))))


def test_environment_workdir_and_stdin_are_passed_on() -> None:
    made = arguments(ExecutorPlan("img", ("cat",), workdir="/w", stdin="/data/in", env={"A": "b=c\nd"}))
    assert {"--workdir=/w", "--interactive"} <= set(made)
    assert made[made.index("--env") + 1] == "A=b=c\nd"


def test_more_cores_than_the_machine_has_are_asked_as_all_it_has() -> None:
    for asked, given in ((4096.0, float(os.cpu_count() or 1)), (0.001, 0.01)):
        assert f"--cpus={given:g}" in arguments(ExecutorPlan("img", ("true",)), resources=Resources(cpu_cores=asked))


@pytest.mark.parametrize(("said", "problem"), [("true", "more memory than its 0.1 GB"), ("false", None)])
async def test_want_of_memory_is_told_where_podman_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, problem: str | None
) -> None:
    """By a podman of ours: the real one sees it only where control groups are of version 2."""
    fake = tmp_path / "podman"
    script = f"echo $1 >>{tmp_path}/asked; case $* in *--name=*) exit 137;; inspect*) echo {said};; esac"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    space = Space(tmp_path / "attempt")
    space.streams(0).mkdir(parents=True)
    plan = Plan(executors=(ExecutorPlan("img", ("x",)),), resources=Resources(ram_bytes=10**8))
    podman = Podman(tmp_path)
    await podman.start()
    end = await podman.execute(Job(AttemptKey("t", 1), 0, plan, space), lambda: None)
    await podman.stop()
    assert end.exit_code == 137
    assert (end.problem or "") == (f"it needed {problem} (resources.ram_gb)" if problem else "")
    assert (tmp_path / "asked").read_text().split() == ["run", "ps", "image", "run", "inspect", "rm", "ps"]


def test_only_a_container_with_limited_memory_stays_until_it_was_asked() -> None:
    assert "--rm" in arguments(ExecutorPlan("img", ("true",)))
    assert "--rm" not in arguments(ExecutorPlan("img", ("true",)), resources=Resources(ram_bytes=10**9))
