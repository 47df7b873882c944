"""The cluster that tests use: one that is named, or the one that starts on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["HOST", "ROOT", "Cluster", "KubectlError", "containers_environment", "find_cluster", "locked"]

ROOT = Path(__file__).parents[2]
HOST = "172.31.255.1"
"""This machine's address as the pods of its own cluster see it."""

_SHARED = ROOT.parent / "shared" / "kube"
_STATE = Path("/var/lib/test-kube")


class KubectlError(AssertionError):
    """kubectl failed; the message is what it said."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers. `tool` starts, stops and breaks it, where its one node is this machine."""

    kubeconfig: Path
    tool: Path | None = None

    @property
    def here(self) -> bool:
        """Whether the node is this machine: its directories can be volumes, and pods reach servers at `HOST`."""
        return self.tool is not None

    def need_here(self) -> Path:
        """The tool; skips the test elsewhere."""
        if self.tool is None:
            pytest.skip("needs the cluster of ../shared/kube, whose node is this machine; leave KUBECONFIG unset")
        return self.tool

    def run(self, *args: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """kubectl with `args` and, on its stdin, `given`; does not raise."""
        return subprocess.run(
            self._command(*args), input=given, capture_output=True, text=True, check=False, timeout=150
        )

    def begin(self, *args: str | Path) -> subprocess.Popen[bytes]:
        """kubectl with `args`, which goes on; end it with its process group."""
        return subprocess.Popen(
            self._command(*args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )

    def kubectl(self, *args: str | Path, given: str | None = None) -> str:
        """What kubectl prints for `args`. Raises KubectlError."""
        done = self.run(*args, given=given)
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(map(str, args))}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: Mapping[str, Any], dry_run: bool = False) -> str:
        """`kubectl apply`, and what it prints; `dry_run` asks the API server without making anything."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self.kubectl("apply", *(["--dry-run=server"] if dry_run else []), "-f", "-", given=items)

    def _command(self, *args: str | Path) -> list[str | Path]:
        program: list[str | Path] = ["kubectl"] if self.tool is None else [self.tool, "kubectl"]
        return [*program, "--kubeconfig", self.kubeconfig, *args]

    def list(self, kinds: str, *args: str) -> list[dict[str, Any]]:
        """All objects of `kinds` (with commas between), in no certain order."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kinds, "-o", "json", *args))["items"]
        return items


def find_cluster() -> Cluster:
    """The cluster of KUBECONFIG, else that of ../shared/kube, started if need be; skips where neither is there.

    It is left running: starting it anew takes longer than most tests.
    """
    named = os.environ.get("KUBECONFIG", "")
    tool = _SHARED / "cluster"
    own = Path(os.environ.get("KUBE_STATE", _STATE)) / "kubeconfig"
    if named and not (tool.is_file() and Path(named) == own):
        if shutil.which("kubectl") is None:
            pytest.skip("KUBECONFIG names a cluster, and kubectl is not on the PATH")
        return Cluster(Path(named))
    if not tool.is_file() or os.geteuid() != 0:
        why = "only root can start ../shared/kube" if tool.is_file() else "there is no ../shared/kube/cluster"
        pytest.skip(f"no Kubernetes here: KUBECONFIG names none, and {why}")
    with locked("kube"):
        if not own.is_file() or subprocess.run([tool, "kubectl", "get", "--raw", "/readyz"], **_QUIET).returncode != 0:
            subprocess.run([tool, "up"], check=True, **_QUIET)
    return Cluster(own, tool)


_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "timeout": 300}


def containers_environment() -> dict[str, str]:
    """The environment for podman: on a machine that ../shared/kube is for, with the limits that it needs there."""
    limits = _SHARED / "containers.conf"
    return {**({"CONTAINERS_CONF": str(limits)} if limits.is_file() else {}), **os.environ}


@contextlib.contextmanager
def locked(name: str) -> Iterator[Path]:
    """Only one process of this checkout at a time; gives the directory of built things."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with (build / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield build
