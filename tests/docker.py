"""A docker daemon for tests: its own, with its own images, socket and bridge, gone when they end."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Daemon"]

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0

_NUMBERS = itertools.count()


@dataclass
class Daemon:
    """A running dockerd; `bridge` is the network that its containers are on."""

    directory: Path
    bridge: str
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls) -> Daemon:
        """Start one. Skips where docker is not installed or its daemon cannot run."""
        for program, package in (("dockerd", "docker.io"), ("docker", "docker.io"), ("ip", "iproute2")):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed (Debian: apt-get install {package})")
        if os.getuid() != 0:
            pytest.skip("only root can start a docker daemon of its own")
        directory = Path(tempfile.mkdtemp(prefix="tesk-docker-"))  # a socket's path has to be short
        number = next(_NUMBERS)
        bridge = f"tesk{os.getpid()}-{number}"
        daemon = cls(directory, bridge)
        why = _make_bridge(bridge, (os.getpid() * 8 + number) % 256) or daemon._run()
        if why:
            daemon.end()
            pytest.skip(f"a docker daemon cannot run here: {why}")
        return daemon

    def _run(self) -> str:
        """Start the process and wait until it answers; why it does not, or ""."""
        options = {
            "data-root": self.directory / "data",
            "exec-root": self.directory / "exec",
            "pidfile": self.directory / "pid",
            "host": self.environment["DOCKER_HOST"],
            "bridge": self.bridge,
            "iptables": "false",
            "ip6tables": "false",
            "ip-masq": "false",
            "storage-driver": "overlay2",
        }
        # a machine that lets nobody raise limits (no CAP_SYS_RESOURCE) still starts containers
        limits = [f"--default-ulimit={one}=1024:1024" for one in ("nofile", "nproc")]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["dockerd", *(f"--{name}={value}" for name, value in options.items()), *limits],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._unready()

    @property
    def client(self) -> tuple[str, ...]:
        """The first words of docker's command line."""
        return ("docker", "--host", self.environment["DOCKER_HOST"])

    @property
    def environment(self) -> dict[str, str]:
        """What makes docker's client speak to this daemon."""
        return {"DOCKER_HOST": f"unix://{self.directory}/socket"}

    def _unready(self) -> str:
        assert self.process is not None
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end and self.process.poll() is None:
            if subprocess.run([*self.client, "version"], check=False, capture_output=True).returncode == 0:
                return ""
            time.sleep(0.1)
        said = (self.directory / "log").read_text(errors="replace").strip().splitlines()
        return said[-1][:300] if said else "it said nothing"

    def end(self) -> None:
        """End it with what it runs, and remove its files."""
        if self.process is not None and self.process.poll() is None:
            if left := subprocess.run([*self.client, "ps", "-aq"], check=False, capture_output=True, text=True).stdout:
                subprocess.run([*self.client, "rm", "-f", *left.split()], check=False, capture_output=True)
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._end_shims()
        self._unmount()
        subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)
        shutil.rmtree(self.directory)

    def _end_shims(self) -> None:
        """The containers of a daemon that was killed live on, each below a process that names our directory."""
        for one in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{self.directory}/".encode() in (one / "cmdline").read_bytes():
                    children = (one / "task" / one.name / "children").read_text().split()
                    for process in (*children, one.name):
                        os.kill(int(process), signal.SIGKILL)

    def _unmount(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for one in reversed([one for one in mounts if one.startswith(f"{self.directory}/")]):
            subprocess.run(["umount", "--lazy", one], check=True)


def _make_bridge(name: str, network: int) -> str:
    """Make a bridge with an address of its own; why that does not work, or ""."""
    for words in (f"link add {name} type bridge", f"addr add 10.213.{network}.1/24 dev {name}", f"link set {name} up"):
        done = subprocess.run(["ip", *words.split()], check=False, capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip()
    return ""
