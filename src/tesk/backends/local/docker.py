"""The engine `docker`: one container an executor, by a daemon that runs as root or rootless."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tesk.backends.local.client import call
from tesk.backends.local.engine import EngineUnavailable, Space
from tesk.backends.local.mounts import mount_option, program_mounts
from tesk.backends.local.oci import COMMAND_TIMEOUT, OFFLINE, PROBE_TIMEOUT, OciEngine

__all__ = ["Docker"]

EMPTY_IMAGE = "tesk-empty:1"
EMPTY_TAR = bytes(1024)


class Docker(OciEngine):
    """Containers by docker's command line, which knows the site's contexts and registries' credentials.

    Args:
        user: (user, group) of the server, to whom files of executors are given; this process's by default.
    """

    name = "docker"
    prefix = "docker: "
    unlimited = b" discarded."
    lost = (
        b"error waiting for container",
        b"error during connect",
        b"Is the docker daemon running?",
    )

    def __init__(
        self,
        state: Path,
        *,
        network: bool = True,
        pids: int | None = None,
        lasting: bool = False,
        user: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(state, network=network, pids=pids, lasting=lasting)
        self._user = user or (os.getuid(), os.getgid())
        self._rootless = False
        self._root: tuple[str, ...] = ()

    def why(self, errors: bytes) -> str:
        """What the client, or the daemon through it, says last of why it failed."""
        return super().why(errors).removeprefix("Error response from daemon: ")

    async def probe(self, *options: str) -> bytes:
        """The machine's own `true` in a container that shows a file of the state directory."""
        code, told, errors = await self.client("info", "--format={{.ServerVersion}} {{.SecurityOptions}}")
        if code or not told.strip():
            raise EngineUnavailable(f"docker is installed and its daemon does not answer: {self.why(errors)}")
        self._rootless = b"name=rootless" in told
        self._root = ("--user=0:0", "--userns=host") if b"name=userns" in told else ("--user=0:0",)
        self.state.mkdir(parents=True, exist_ok=True)
        seen = self.state / "seen-by-docker"
        seen.touch()
        try:
            code, errors = await self._run_own(seen, "true", options=(*self.network, *options))
        finally:
            seen.unlink()
        if code:
            raise EngineUnavailable(
                f"docker is installed and cannot start a container that sees this machine's files: {self.why(errors)}"
            )
        return errors

    async def release(self, space: Space) -> None:
        """Give files of the daemon's users to the server's; root can read and remove them as they are."""
        if self._user[0] == 0:
            return
        user, group = (0, 0) if self._rootless else self._user
        scratch = space.scratch
        await self._run_own(scratch, "chown", "-R", f"{user}:{group}", str(scratch))
        await self._run_own(scratch, "chmod", "-R", "u+rwX", str(scratch))

    async def _run_own(self, shown: Path, *command: str, options: Sequence[str] = OFFLINE) -> tuple[int, bytes]:
        """(exit code, stderr) of a program of this machine, run by root in a container where `shown` may be changed.

        docker has no way to take a directory as the container's root: an image without any file serves for one.
        """
        code, _, errors = await self.client("image", "inspect", "--format={{.Id}}", EMPTY_IMAGE)
        if code:
            code, _, errors = await call(
                *("docker", "import", "-", EMPTY_IMAGE), timeout=COMMAND_TIMEOUT, stdin=EMPTY_TAR
            )
            if code:
                return code, errors
        own = (*options, "--log-driver=none", *self._root, f"--label={self.label}")
        mounts = (*program_mounts(), mount_option(str(shown), str(shown), False))
        code, _, errors = await self.client("run", "--rm", *own, *mounts, EMPTY_IMAGE, *command, timeout=PROBE_TIMEOUT)
        return code, errors
