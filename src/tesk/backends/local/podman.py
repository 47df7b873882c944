"""The engine `podman`: one container an executor, with root or rootless."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable

from tesk.backends.local.engine import EngineUnavailable, Job, Space
from tesk.backends.local.foreground import Ended
from tesk.backends.local.mounts import empty_root, mount_option, program_mounts
from tesk.backends.local.oci import NOT_EXECUTABLE, PROBE_TIMEOUT, OciEngine

__all__ = ["Podman"]


class Podman(OciEngine):
    """Containers by podman's command line."""

    name = "podman"
    prefix = "Error: "
    unlimited = b"Resource limits are not supported and ignored"
    remove = ("rm", "-f", "-t", "0")

    async def probe(self, *options: str) -> bytes:
        """The machine's own `true` in a root of empty directories.

        Not the machine's root through an overlay: the kernel refuses that to an ordinary user.
        """
        with empty_root(self.state / "podman-probe") as root:
            own = ("--rm", "--log-driver=none", f"--label={self.label}", *self.network, *program_mounts())
            code, _, errors = await self.client(
                "run", *own, *options, "--rootfs", str(root), "true", timeout=PROBE_TIMEOUT
            )
        if code:
            raise EngineUnavailable(f"podman is installed and cannot start a container: {self.why(errors)}")
        return errors

    async def run(self, job: Job, started: Callable[[], None], *more: str) -> tuple[Job, Ended]:
        """Run the container; a `workdir` that the image lacks is made, as docker and Kubernetes do it."""
        ran, ended = await super().run(job, started, *more)
        workdir = job.executor.workdir
        if workdir is None or not _lacks(workdir, ended):
            return ran, ended
        again = dataclasses.replace(job, again=True)
        made = job.space.workdir(job.index)
        if not self._keepers.begun(again):
            made.mkdir(exist_ok=True)
            made.chmod(0o1777)
            for one in job.space.streams(job.index).iterdir():
                one.unlink()
        return await super().run(again, lambda: None, *more, mount_option(str(made), workdir, False))

    def starved(self, job: Job, ended: Ended) -> bool:
        """As podman says, or conmon, which carries its containers: by a file in the directory where podman was started.

        Podman before 5.0 looks for that file elsewhere, and says of no container that it needed more memory.
        """
        return super().starved(job, ended) or (job.space.executor(job.index) / "oom").exists()

    async def release(self, space: Space) -> None:
        """Rootless: give files of the container's other users to the server's."""
        if os.getuid() != 0:
            await self.client("unshare", "chown", "-R", "0:0", str(space.scratch))
            await self.client("unshare", "chmod", "-R", "u+rwX", str(space.scratch))


def _lacks(workdir: str, ended: Ended) -> bool:
    """Whether podman, and nothing else, said that the image has no `workdir`: then the command has not run."""
    sentence = f'Error: workdir "{re.escape(workdir)}" does not exist on container [0-9a-f]+\n'.encode()
    return ended.code == NOT_EXECUTABLE and ended.silent and re.fullmatch(sentence, ended.said_first) is not None
