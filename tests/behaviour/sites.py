"""Where the behaviour suite runs: one line a backend, and a real server for each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tesk.backends.local.keeping.keepers import end_keepers
from tesk.backends.local.sandbox.engine import end_groups
from tesk.client import Client
from tests.docker import Daemon
from tests.images import PODMAN, load_bare, load_busybox, load_user
from tests.servers import LOOPBACK

__all__ = ["BACKENDS", "Ground", "Place", "Site", "sentences"]

READY_TIMEOUT = 60.0
TASK_TIMEOUT = 60.0
LEFT_TIMEOUT = 3.0


@dataclass(frozen=True)
class Ground:
    """What a place gives to one server: settings of its own, and what is `left` there of attempts.

    `left` waits a moment for what is just being removed.
    """

    settings: Mapping[str, str]
    left: Callable[[], list[str]]


@contextlib.contextmanager
def _state_directory(site: Site) -> Iterator[Ground]:
    """A local backend keeps everything in the server's own state directory."""

    def left() -> list[str]:
        attempts = site.state / "attempts"
        end = time.monotonic() + LEFT_TIMEOUT
        while found := sorted(str(one.relative_to(attempts)) for one in attempts.rglob("*")):
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        return found

    shared = {"name": "files", "directory": str(site.files), "client_path": str(site.files)}
    try:
        yield Ground({"TESK_STORAGE_SHARED": json.dumps([shared])} if site.place.shares else {}, left)
    finally:
        asyncio.run(end_keepers(site.state))  # what ran when its server ended runs on
        end_groups(site.state)


def _cores(count: int) -> dict[str, str]:
    return {"TESK_LOCAL_CPU_CORES": str(count)}


@dataclass(frozen=True)
class Place:
    """One way to run attempts: the server's settings for it, and an image that has a shell.

    `missing_image` is what the task's user is told for an image that is not there; None where images are not used.
    `room` gives the settings with which so many tasks of one core run at once. `admits` says that the backend itself
    knows how large its machine is, and starts tasks in order. `outlives_server`: attempts go on while no server runs.
    `patience` stretches the waits for what takes longer here. `shares`: the site's files are mounted, not moved.
    `bare_image` has /bin/busybox and nothing else, `user_image` another user than root; None where tests have none.
    `online` gives the settings with which executors reach a network ("true") or do not ("false"); None where that is
    not for the server to say. `host` is where a test's own servers listen, so that attempts reach them. `end` gives
    back what the place itself took.
    """

    settings: Mapping[str, str]
    image: str
    missing_image: str | None = None
    prepare: Callable[[Site], AbstractContextManager[Ground]] = _state_directory
    room: Callable[[int], Mapping[str, str]] = _cores
    admits: bool = True
    outlives_server: bool = False
    patience: float = 1.0
    shares: bool = False
    bare_image: str | None = None
    user_image: str | None = None
    online: Mapping[str, Mapping[str, str]] | None = None
    host: str = LOOPBACK
    end: Callable[[], None] = lambda: None


def _sandbox(_: Path) -> Place:
    return Place(
        {"TESK_LOCAL_ENGINE": "sandbox"},
        "not-used",
        bare_image="not-used",
        user_image="not-used",
        online=_NETWORK,
        outlives_server=True,
    )


def _containers(name: str, directory: Path, client: Sequence[str], **more: Any) -> Place:
    return Place(
        {"TESK_LOCAL_ENGINE": name, **more.pop("settings", {})},
        load_busybox(directory, client),
        "no container of image",
        bare_image=load_bare(directory, client),
        user_image=load_user(directory, client),
        online=_NETWORK,
        outlives_server=True,
        **more,
    )


def _podman(directory: Path) -> Place:
    if os.getuid() == 0 or os.access("/dev/net/tun", os.W_OK):
        return _containers("podman", directory, PODMAN)
    offline = _containers("podman", directory, PODMAN, settings=_NETWORK["false"])
    return replace(offline, online={"false": _NETWORK["false"]})


def _docker(directory: Path) -> Place:
    daemon = Daemon.start()
    try:
        return _containers("docker", directory, daemon.client, settings=daemon.environment, end=daemon.end)
    except BaseException:
        daemon.end()
        raise


_NETWORK = {one: {"TESK_LOCAL_NETWORK": one} for one in ("true", "false")}


def _kubernetes(layout: str) -> Place:
    """The cluster whose node is this machine, since tasks name files of it."""
    from tests.kube.cluster import HOST, find_cluster
    from tests.kube.image import BUSYBOX, load_image
    from tests.kube.place import prepare

    cluster = find_cluster()
    cluster.need_here()
    # this cluster's volumes can be written by root only, and a missing image should not be waited for
    settings = {
        "TESK_BACKEND": "kubernetes",
        "TESK_KUBERNETES_LAYOUT": layout,
        "TESK_KUBERNETES_IMAGE": load_image(cluster),
        "TESK_KUBERNETES_RUN_AS_USER": "0",
        "TESK_KUBERNETES_KEEP_FINISHED": "0",
        "TESK_KUBERNETES_START_TIMEOUT": "45",
    }
    return Place(
        settings,
        BUSYBOX,
        "cannot be pulled",
        prepare=lambda site: prepare(cluster, site.directory, site.files, shares=site.place.shares),
        room=lambda count: {"TESK_KUBERNETES_MAX_ACTIVE": str(count)},
        admits=False,
        outlives_server=True,
        patience=3.0,
        host=HOST,
    )


BACKENDS: dict[str, Callable[[Path], Place]] = {
    "sandbox": _sandbox,
    "podman": _podman,
    "docker": _docker,
    "kubernetes": lambda _: _kubernetes("jobs"),
    "kubernetes-pod": lambda _: _kubernetes("pod"),
    "sandbox-shared": lambda directory: replace(_sandbox(directory), shares=True),
    "podman-shared": lambda directory: replace(_podman(directory), shares=True),
    "docker-shared": lambda directory: replace(_docker(directory), shares=True),
    "kubernetes-shared": lambda _: replace(_kubernetes("jobs"), shares=True),
    "kubernetes-pod-shared": lambda _: replace(_kubernetes("pod"), shares=True),
}
"""A later backend joins here. Each may skip, naming what to install."""


@dataclass
class Site:
    """A running server over `place`, with a directory `files` that tasks may name."""

    place: Place
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    ground: Ground | None = None
    _given: ExitStack = field(default_factory=ExitStack)

    @property
    def files(self) -> Path:
        """The directory below which tasks may read and write."""
        return self.directory / "files"

    @property
    def state(self) -> Path:
        """The server's state directory."""
        return self.directory / "state"

    @property
    def client(self) -> Client:
        """A new client; close it."""
        return Client(self.url, timeout=20.0)

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        self.files.mkdir(parents=True, exist_ok=True)
        if self.ground is None:
            self.ground = self._given.enter_context(self.place.prepare(self))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TESK_")},
            "TESK_STATE_DIRECTORY": str(self.state),
            "TESK_STORAGE_FILE_ROOTS": str(self.files),
            "TESK_SERVER_PORT": "0",
            "TESK_SERVER_ACCESS_LOG": "false",
            **self.place.settings,
            **self.ground.settings,
            **self.settings,
        }
        errors = self.directory / "server.log"
        with errors.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tesk", "serve"],
                env=environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], READY_TIMEOUT)
        line = self.process.stdout.readline().decode() if ready else ""
        assert "ready at" in line, f"the server did not start: {line}{errors.read_text()[-2000:]}"
        self.url = line.split()[-1]

    def close(self) -> None:
        """Give back what the place gave, once no server runs any more."""
        self._given.close()

    def end(self, number: int) -> int:
        """End the server by a signal; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Started for the block, and stopped in order after it; what it had is gone in any case."""
        try:
            self.start()
            yield
            assert self.stop() == 0
        finally:
            if self.process is not None and self.process.returncode is None:
                self.kill()
            self.close()

    def kill(self) -> None:
        """kill -9."""
        self.end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, as a service manager does it."""
        return self.end(signal.SIGTERM)

    def task(self, *command: str, **more: Any) -> dict[str, Any]:
        """A task of one executor; keywords of an executor go there, others into the task."""
        of_executor = ("workdir", "stdin", "stdout", "stderr", "env", "ignore_error", "image")
        executor = {"image": self.place.image, "command": list(command)}
        executor |= {name: more.pop(name) for name in of_executor if name in more}
        return {"executors": [executor], **more}

    def shell(self, script: str, **more: Any) -> dict[str, Any]:
        """A task of one executor that is a shell script."""
        return self.task("sh", "-c", script, **more)

    def create(self, task: Mapping[str, Any]) -> str:
        """Send `task`; its id."""
        with self.client as client:
            return client.create(task)

    def get(self, task_id: str) -> dict[str, Any]:
        """The task, FULL."""
        with self.client as client:
            return dict(client.get(task_id, "FULL"))

    def wait(self, task_id: str, *states: str) -> dict[str, Any]:
        """The task once it is in one of `states`, or has ended if none is given."""
        wanted = states or ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED")
        end = time.monotonic() + TASK_TIMEOUT * self.place.patience
        with self.client as client:
            while time.monotonic() < end:
                found = client.get(task_id, "MINIMAL")["state"]
                if found in wanted:
                    return dict(client.get(task_id, "FULL"))
                time.sleep(0.02)
        raise AssertionError(f"task {task_id} is not {wanted} in time: {json.dumps(self.get(task_id), indent=1)}")

    def run(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """`task` to its end."""
        return self.wait(self.create(task))

    def left(self) -> list[str]:
        """What is left of attempts where they ran."""
        assert self.ground is not None
        return self.ground.left()


def sentences(task: Mapping[str, Any]) -> str:
    """All that `system_logs` of the last attempt say."""
    return "\n".join(task["logs"][-1].get("system_logs", []))
