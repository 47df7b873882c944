"""apptainer's command line, and how its client is started and ended.

No package index has apptainer. So what containers do is not tested: the client here is a program that notes what it was
given and runs the command as it is.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.backends.conftest import Runner

from tesk.backends.base import AttemptKey
from tesk.backends.local.apptainer import Apptainer, client_environment, run_arguments
from tesk.backends.local.engine import EngineUnavailable, Job, Space
from tesk.plan.model import ExecutorPlan, Mount, Plan, Resources
from tesk.taskmaster.steps import AttemptLost, StepFailed

FAKE = """#!{python} -E
import json, os, sys
place = os.path.dirname(os.path.abspath(__file__))
with open(place + "/calls", "a") as file:
    given = {{name: value for name, value in os.environ.items() if name.startswith("APPTAINERENV_")}}
    file.write(json.dumps([sys.argv[1:], given]) + "\\n")
if os.path.exists(place + "/refuse") and open(place + "/refuse").read() in " ".join(sys.argv):
    sys.stderr.write("FATAL:   container creation failed: not here\\n")
    sys.exit(255)
after = next(i for i, one in enumerate(sys.argv[1:], 1) if one.startswith("docker://") or one.endswith("-probe"))
try:
    os.execvp(sys.argv[after + 1], sys.argv[after + 1:])
except FileNotFoundError:
    sys.stderr.write('FATAL:   "%s": executable file not found in $PATH\\n' % sys.argv[after + 1])
    sys.exit(255)
"""


def arguments(
    executor: ExecutorPlan,
    *mounts: Mount,
    resources: Resources | None = None,
    network: bool = True,
    limits: bool = True,
    root: bool = False,
) -> list[str]:
    plan = Plan(executors=(executor,), mounts=mounts, resources=resources or Resources())
    job = Job(AttemptKey("task-x", 1), 0, plan, Space(Path("/state/attempts/a")))
    return run_arguments(job, Path("/private"), network=network, limits=limits, root=root)


def test_command_follows_the_image_word_by_word() -> None:
    made = arguments(ExecutorPlan("quay.io/img:1", ("-x", "a b", "", "$HOME\n")))
    assert made[-5:] == ["docker://quay.io/img:1", "-x", "a b", "", "$HOME\n"]
    assert made[:2] == ["--silent", "exec"]
    assert {"--containall", "--no-home", "--no-eval", "--writable-tmpfs", "--workdir=/private", "--pwd=/"} < set(made)


def test_mounts_survive_what_paths_may_hold() -> None:
    made = arguments(ExecutorPlan("img", ("true",)), Mount('/da,ta:/"x"'), Mount("/etc/one", "FILE", True))
    mounts = [next(csv.reader([one.removeprefix("--mount=")])) for one in made if one.startswith("--mount=")]
    assert mounts == [
        ["type=bind", 'source=/state/attempts/a/scratch/da,ta:/"x"', 'destination=/da,ta:/"x"'],
        ["type=bind", "source=/state/attempts/a/scratch/etc/one", "destination=/etc/one", "ro"],
    ]


def test_limits_network_rights_and_workdir_are_those_asked() -> None:
    executor = ExecutorPlan("img", ("true",), workdir="/w")
    wanted = Resources(cpu_cores=1.5, ram_bytes=2 * 10**9)
    assert {"--cpus=1.5", "--memory=2000000000", "--pwd=/w"} < set(arguments(executor, resources=wanted))
    assert not [
        one for one in arguments(executor, resources=wanted, limits=False) if one.startswith(("--cpus", "--memory"))
    ]
    assert {"--net", "--network=none"} < set(arguments(executor, network=False))
    assert "--net" not in arguments(executor)
    assert "--no-privs" in arguments(executor, root=True)
    assert "--no-privs" not in arguments(executor)


def test_the_executors_variables_are_passed_as_they_are_and_the_servers_are_not() -> None:
    own = {"PATH": "/bin", "APPTAINERENV_X": "1", "SINGULARITYENV_Y": "2", "APPTAINER_CACHEDIR": "/cache"}
    assert client_environment(own, {"A": "b,c=$(d)\n", "PATH": "/opt"}) == {
        "PATH": "/bin",
        "APPTAINER_CACHEDIR": "/cache",
        "APPTAINERENV_A": "b,c=$(d)\n",
        "APPTAINERENV_PATH": "/opt",
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the client that stands in for apptainer lies, first on the PATH."""
    found = tmp_path / "bin"
    found.mkdir()
    (found / "apptainer").write_text(FAKE.format(python=sys.executable))
    (found / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{found}:{os.environ['PATH']}")
    return found


@pytest.fixture
async def apptainer(place: Path, tmp_path: Path) -> AsyncIterator[Runner]:
    """The engine over it."""
    engine = Apptainer(tmp_path / "state")
    await engine.start()
    yield Runner(engine, tmp_path / "state")
    await engine.stop()


async def test_what_does_not_start_says_why(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "refuse").write_text("exec")
    with pytest.raises(EngineUnavailable, match="cannot start a container: container creation failed: not here"):
        await Apptainer(tmp_path / "state").start()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="apptainer is not installed"):
        await Apptainer(tmp_path / "state").start()


async def test_where_limits_are_not_allowed_containers_run_without(place: Path, tmp_path: Path) -> None:
    (place / "refuse").write_text("--cpus")
    engine = Apptainer(tmp_path / "state")
    await engine.start()
    (place / "calls").unlink()
    runner = Runner(engine, tmp_path / "state")
    job = runner.job("true")
    limited = Job(job.key, 0, Plan(executors=job.plan.executors, resources=Resources(cpu_cores=1)), job.space)
    assert (await runner.run(limited)).exit.exit_code == 0
    await engine.stop()
    assert "--cpus" not in (place / "calls").read_text()


async def test_streams_exit_code_and_variables_are_those_of_the_command(apptainer: Runner, place: Path) -> None:
    ran = await apptainer("sh", "-c", "echo out; echo err >&2; exit 3", env={"A": "b,c"})
    assert (ran.exit.exit_code, ran.exit.problem, ran.stdout, ran.stderr) == (3, None, "out\n", "err\n")
    assert json.loads((place / "calls").read_text().splitlines()[-1])[1] == {"APPTAINERENV_A": "b,c"}


async def test_failures_of_the_client_are_told_apart(apptainer: Runner, place: Path) -> None:
    missing = await apptainer("no-such-command", image="img:1")
    assert (missing.exit.exit_code, missing.exit.problem) == (
        127,
        "the command 'no-such-command' was not found in image 'img:1'",
    )
    assert (await apptainer("sh", "-c", "echo FATAL: mine; exit 255")).exit.exit_code == 255
    with pytest.raises(AttemptLost, match="ended by signal 9"):
        await apptainer("sh", "-c", "kill -9 $$")
    (place / "refuse").write_text("img:2")
    with pytest.raises(StepFailed, match="no container of image 'img:2' could be made: container creation failed"):
        await apptainer("true", image="img:2")


async def test_cancel_ends_every_process(apptainer: Runner) -> None:
    work = asyncio.create_task(apptainer("sh", "-c", "sleep 98431 & sleep 98431"))
    await eventually(lambda: len(sleeping(98431)) == 2)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await eventually(lambda: not sleeping(98431))


async def test_a_server_ends_what_runs_still_without_a_keeper_and_nothing_else(
    apptainer: Runner, tmp_path: Path
) -> None:
    job = apptainer.job("sh", "-c", "sleep 98432 & sleep 98432")
    work = asyncio.create_task(apptainer.run(job))
    await eventually(lambda: len(sleeping(98432)) == 2)
    note = job.space.executor(0) / "process"
    process, _ = note.read_text().split()
    keeper = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(keeper), signal.SIGKILL)
    with pytest.raises(AttemptLost, match="the keeper ended"):
        await asyncio.wait_for(work, 20)
    other = apptainer.state / "attempts/other/ex-00/process"
    other.parent.mkdir(parents=True)
    other.write_text(f"{os.getpid()} 1")  # the number of another process by now
    later = Apptainer(apptainer.state)
    await later.start()
    await eventually(lambda: not sleeping(98432))
    await later.stop()
    assert (await apptainer("true")).exit.exit_code == 0, "another keeper runs what begins then"


async def test_what_runs_goes_on_with_the_next_server(place: Path, tmp_path: Path) -> None:
    first = Apptainer(tmp_path / "state", lasting=True)
    await first.start()
    runner = Runner(first, tmp_path / "state")
    job = runner.job("sh", "-c", "echo $$; sleep 1; echo $$; exit 3")
    work = asyncio.create_task(runner.run(job))
    await eventually(lambda: (job.space.streams(0) / "stdout.0").exists())
    first.leave()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await first.stop()
    second = Apptainer(tmp_path / "state", lasting=True)
    await second.start()
    ran = await Runner(second, tmp_path / "state").run(job)
    assert ran.exit.exit_code == 3
    before, after = ran.stdout.splitlines()
    assert before == after, "one process wrote both"
    assert sum("echo $$" in one for one in (place / "calls").read_text().splitlines()) == 1
    await second.stop()


def sleeping(number: int) -> list[str]:
    """The processes that a test left sleeping."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if one.read_bytes() == f"sleep\0{number}\0".encode():
                found.append(one.parent.name)
        except OSError:
            continue
    return found


async def eventually(what: Callable[[], bool]) -> None:
    """Wait until `what()` holds."""
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.02)
