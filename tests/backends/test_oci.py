"""The command line of podman and docker; what containers do is in tests/behaviour."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tesk.backends.base import AttemptKey
from tesk.backends.local.engine import ExecutorExit, Job, Space
from tesk.backends.local.oci import run_arguments, run_limits
from tesk.backends.local.podman import Podman
from tesk.plan.model import ExecutorPlan, Mount, Plan, Resources


def arguments(executor: ExecutorPlan, *mounts: Mount) -> list[str]:
    plan = Plan(executors=(executor,), mounts=mounts)
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
    made = run_limits(Resources(cpu_cores=1.5, ram_bytes=2 * 10**9), 64)
    assert made == ["--pids-limit=64", "--cpus=1.5", "--memory=2000000000b"]
    assert run_limits(Resources(), None) == ["--pids-limit=-1"]


def test_environment_workdir_and_stdin_are_passed_on() -> None:
    made = arguments(ExecutorPlan("img", ("cat",), workdir="/w", stdin="/data/in", env={"A": "b=c\nd"}))
    assert {"--workdir=/w", "--interactive"} <= set(made)
    assert made[made.index("--env") + 1] == "A=b=c\nd"


def test_more_cores_than_the_machine_has_are_asked_as_all_it_has() -> None:
    for asked, given in ((4096.0, float(os.cpu_count() or 1)), (0.001, 0.01)):
        assert f"--cpus={given:g}" in run_limits(Resources(cpu_cores=asked), None)


class Fake:
    """A podman that notes what it is asked, and does what a shell's `case` says of its arguments."""

    def __init__(self, directory: Path, cases: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = directory / "state"
        self._log = directory / "asked"
        program = directory / "bin/podman"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$*" >>{self._log}; case $* in {cases} esac\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    async def run(self, resources: Resources) -> tuple[Podman, ExecutorExit]:
        """One executor that asks for `resources`, by an engine that is started for it."""
        space = Space(self.state / "attempt")
        space.streams(0).mkdir(parents=True)
        plan = Plan(executors=(ExecutorPlan("img", ("x",)),), resources=resources)
        podman = Podman(self.state)
        await podman.start()
        end = await podman.execute(Job(AttemptKey("t", 1), 0, plan, space), lambda: None)
        await podman.stop()
        return podman, end

    @property
    def asked(self) -> list[str]:
        """Its command lines so far."""
        return self._log.read_text().splitlines()


@pytest.mark.parametrize(("said", "problem"), [("true", "more memory than its 0.1 GB"), ("false", None)])
async def test_want_of_memory_is_told_where_podman_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, problem: str | None
) -> None:
    """By a podman of ours: the real one sees it only where control groups are of version 2."""
    fake = Fake(tmp_path, f"*--name=*) exit 137;; inspect*) echo {said};;", monkeypatch)
    _, end = await fake.run(Resources(ram_bytes=10**8))
    assert end.exit_code == 137
    assert (end.problem or "") == (f"it needed {problem} (resources.ram_gb)" if problem else "")
    assert [one.split()[0] for one in fake.asked] == ["run", "ps", "image", "run", "inspect", "rm", "ps"]
    assert "--rm" not in fake.asked[3], "it stays until it was asked"


IGNORED = "Resource limits are not supported and ignored on cgroups V1 rootless systems"


@pytest.mark.parametrize("does", [f"echo {IGNORED} >&2", "echo 'Error: no controllers' >&2; exit 126"])
async def test_where_limits_cannot_be_enforced_none_is_asked_for_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    """As without root and with control groups of version 1; podman would speak of it in each executor's stderr."""
    fake = Fake(tmp_path, f"*--memory=*) {does};;", monkeypatch)
    podman, end = await fake.run(Resources(cpu_cores=1, ram_bytes=10**8))
    assert end.exit_code == 0
    assert "--cpus" not in fake.asked[-2]
    assert "--rm" in fake.asked[-2]
    assert set(podman.unheld) == {"cpu_cores", "ram_gb", "local.pids"}


async def test_where_limits_are_enforced_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(tmp_path, "", monkeypatch)
    podman, _ = await fake.run(Resources(cpu_cores=1))
    assert "--cpus=1" in fake.asked[-2]
    assert podman.unheld == {}
