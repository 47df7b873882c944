"""What only docker's engine does, on a daemon of the test's own; what containers do is in tests/behaviour."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.backends.conftest import Runner
from tests.docker import Daemon
from tests.images import load_busybox

from tesk.backends.local.docker import Docker
from tesk.backends.local.engine import EngineUnavailable, Space
from tesk.taskmaster.steps import AttemptLost, StepFailed


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A docker daemon."""
    found = Daemon.start()
    yield found
    found.end()


@pytest.fixture
async def docker(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runner]:
    """The engine over it, as a server of user 1234 would have it."""
    monkeypatch.setenv("DOCKER_HOST", daemon.environment["DOCKER_HOST"])
    engine = Docker(tmp_path / "state", user=(1234, 1234))
    await engine.start()
    yield Runner(engine, tmp_path / "state")
    await engine.stop()
    left = subprocess.run([*daemon.client, "ps", "-aq"], check=True, capture_output=True)
    assert left.stdout == b"", "no container is left"


@pytest.fixture
def image(daemon: Daemon, tmp_path: Path) -> str:
    """An image with a shell."""
    return load_busybox(tmp_path, daemon.client)


async def test_files_of_the_daemons_users_are_given_to_the_server(docker: Runner, image: str) -> None:
    script = "mkdir -m 700 /data/d; echo x >/data/d/f; chmod 0 /data/d/f; ln -s /etc/passwd /data/link"
    ran = await docker("sh", "-c", script, image=image, mounts=["/data"])
    file = ran.scratch / "data/d/f"
    assert file.stat().st_uid == 0
    passwd = os.stat("/etc/passwd").st_uid
    await docker.engine.release(Space(ran.scratch.parent))
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 1234)
    assert file.stat().st_mode & 0o600 == 0o600
    assert os.lstat(ran.scratch / "data/link").st_uid == 1234
    assert os.stat("/etc/passwd").st_uid == passwd


async def test_a_restarted_server_removes_what_runs_still(docker: Runner, daemon: Daemon, image: str) -> None:
    assert isinstance(docker.engine, Docker)
    options = ("run", "-d", "--entrypoint=", "--network=none")
    for label in (docker.engine.label, "tesk.state=/another"):
        command = [*daemon.client, *options, f"--label={label}", f"--name=n{len(label)}", image, "sleep", "600"]
        subprocess.run(command, check=True, capture_output=True)
    later = Docker(docker.state)
    await later.start()
    await later.stop()
    left = subprocess.run([*daemon.client, "ps", "--format={{.Names}}"], check=True, capture_output=True, text=True)
    assert left.stdout.split() == ["n19"], "another server's is not touched"
    subprocess.run([*daemon.client, "rm", "-f", "n19"], check=True, capture_output=True)


async def test_an_executor_that_talks_like_docker_is_believed(docker: Runner, image: str) -> None:
    said = "docker: Error response from daemon: OCI runtime create failed"
    ran = await docker("sh", "-c", f"echo out; echo '{said}' >&2; exit 127", image=image)
    assert (ran.exit.exit_code, ran.exit.problem, ran.stderr) == (127, None, f"{said}\n")
    assert (await docker("sh", "-c", "exit 125", image=image)).exit.exit_code == 125


async def test_a_container_that_cannot_be_made_is_told_in_dockers_words(docker: Runner, image: str) -> None:
    with pytest.raises(StepFailed, match=r"executor 0: no container of image '.*' could be made: .*not a directory"):
        await docker("true", image=image, workdir="/etc/passwd")
    with pytest.raises(StepFailed, match=r"image 'localhost/none:1' could be made: [^:]"):
        await docker("true", image="localhost/none:1")


async def test_a_lost_daemon_is_a_lost_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon.start()
    try:
        image = load_busybox(tmp_path, daemon.client)
        monkeypatch.setenv("DOCKER_HOST", daemon.environment["DOCKER_HOST"])
        engine = Docker(tmp_path / "state")
        await engine.start()
        runner = Runner(engine, tmp_path / "state")
        work = asyncio.create_task(runner("sh", "-c", "echo up; sleep 600", image=image))
        while not list((tmp_path / "state").rglob("stdout.0")):
            await asyncio.sleep(0.05)
        assert daemon.process is not None
        daemon.process.kill()
        with pytest.raises(AttemptLost, match="docker gave up: "):
            await asyncio.wait_for(work, 60)
        with pytest.raises(AttemptLost, match=r"docker gave up: .*Is the docker daemon running"):
            await runner("true", image="another:1")
        with pytest.raises(EngineUnavailable, match="its daemon does not answer"):
            await Docker(tmp_path / "state").start()
        await engine.stop()
    finally:
        daemon.end()
