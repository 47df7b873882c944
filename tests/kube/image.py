"""TESK's image, built from this checkout and put where the cluster finds it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kube.cluster import ROOT, Cluster, containers_environment, locked

__all__ = ["BASE", "BUSYBOX", "build_image", "load_image", "unpacked_size"]

BASE = "localhost/debian-python:12"
"""What the image is built from here: a Debian that ../shared/kube makes from packages."""

BUSYBOX = "localhost/busybox:1"
"""An image with a shell that the cluster of ../shared/kube holds from its start."""

_SOURCES = ("Containerfile", ".containerignore", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")
_TREES = ("src/tesk", "launcher")


def load_image(cluster: Cluster) -> str:
    """The name of TESK's image in the cluster: built and loaded, or what TESK_TEST_IMAGE names elsewhere."""
    if cluster.tool is None:
        named = os.environ.get("TESK_TEST_IMAGE", "")
        if not named:
            pytest.skip("KUBECONFIG names a cluster: let TESK_TEST_IMAGE name TESK's image as this cluster pulls it")
        return named
    name = build_image(cluster.tool)
    with locked("kube"):
        if name not in _run(cluster.tool, "images").splitlines():
            _run(cluster.tool, "load", ROOT / "build" / "image" / f"{_tag(name)}.tar")
    return name


def build_image(tool: Path) -> str:
    """Build the image with podman, once for each state of what it is made from; its name.

    The archive `build/image/TAG.tar` is what the cluster loads; that of the state before goes, and its image.
    """
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed (Debian: apt-get install podman runc)")
    name = f"localhost/tesk:{_digest()[:12]}"
    with locked("kube") as build:
        archives = build / "image"
        archives.mkdir(exist_ok=True)
        archive = archives / f"{_tag(name)}.tar"
        if not archive.is_file():
            _base(tool)
            _podman("build", "--quiet", "--build-arg", f"BASE={BASE}", "--tag", name, str(ROOT))
            for old in archives.glob("*.tar"):
                old.unlink()
                _podman("image", "rm", "--force", f"localhost/tesk:{old.stem}", check=False)
            part = archive.with_suffix(".part")
            _podman("save", "--quiet", "--output", str(part), name)
            part.rename(archive)
    return name


def unpacked_size(name: str) -> list[int]:
    """Bytes of each layer of an image in podman's store, the newest first; its base is the last."""
    layers = json.loads(_podman("history", "--format", "json", name))
    return [one["size"] for one in layers if one["size"]]


def _tag(name: str) -> str:
    return name.rpartition(":")[2]


def _digest() -> str:
    digest = hashlib.sha256(BASE.encode())
    for path in _files():
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    for name in _SOURCES:
        yield ROOT / name
    for tree in _TREES:
        yield from sorted(one for one in (ROOT / tree).rglob("*") if one.is_file() and "__pycache__" not in one.parts)


def _base(tool: Path) -> None:
    if subprocess.run(["podman", "image", "exists", BASE], env=containers_environment(), check=False).returncode != 0:
        _podman("load", "--quiet", "--input", _run(tool, "base").splitlines()[-1])


def _podman(*args: str, check: bool = True) -> str:
    return _run("podman", *args, check=check)


def _run(*command: str | Path, check: bool = True) -> str:
    done = subprocess.run(
        command, env=containers_environment(), capture_output=True, text=True, check=False, timeout=1200
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} failed: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
