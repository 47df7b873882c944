"""An image whose pull never ends, until it is made to fail."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kube.cluster import Cluster
from tests.kube.scenes.stage import registry

__all__ = ["LateImage", "late_image"]


@dataclass(frozen=True)
class LateImage:
    """A busybox called `name`, made as `archive`. `fail` ends the pulls that go on."""

    name: str
    archive: Path
    tool: Path
    fail: Callable[[], None]

    def arrive(self) -> None:
        """From now on no new pod needs to pull it; pulls that go on do not end for that."""
        make = [sys.executable, self.tool.with_name("image.py"), "busybox", self.archive, self.name]
        for command in (make, [self.tool, "load", self.archive]):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)


@contextlib.contextmanager
def late_image(cluster: Cluster, directory: Path) -> Iterator[LateImage]:
    """Such an image; pulls that go on afterwards fail."""
    tool = cluster.need_here()
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(registry())
        yield LateImage(f"{host}/hanging/busybox:1", directory / "late.tar", tool, stack.close)
