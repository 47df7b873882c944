"""Small container images for tests, made from static programs with no engine and no registry."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tesk.backends.local.mounts import empty_root, program_mounts

__all__ = ["IMAGE", "PODMAN", "find_debian", "load_bare", "load_busybox", "load_program", "load_user", "need_podman"]

IMAGE = "localhost/tesk-test-busybox:1"
DEBIAN = "localhost/debian-python:12"
USER_IMAGE = "localhost/tesk-test-user:1"

PODMAN = ("podman",)
"""The client that images are loaded with by default; docker's may have words that name its daemon."""


def need_podman() -> None:
    """Skips where podman cannot start containers."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed (Debian: apt-get install podman runc)")
    with tempfile.TemporaryDirectory() as name, empty_root(Path(name, "root")) as root:
        command = ["podman", "run", "--rm", "--network=none", *program_mounts(), "--rootfs", str(root), "true"]
        probe = subprocess.run(command, capture_output=True, check=False)
    if probe.returncode != 0:
        said = probe.stderr.decode().strip().splitlines()
        pytest.skip(f"podman cannot start a container here: {said[-1] if said else 'it said nothing'}")


def load_busybox(directory: Path, client: Sequence[str] = PODMAN) -> str:
    """Load an image with busybox's programs, once for each engine, and give its name.

    Skips where podman, if that is asked for, cannot start containers, or static busybox is absent.
    """
    if client == PODMAN:
        need_podman()
    config = {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/echo", "the entrypoint must not run"]}
    return _load(IMAGE, _programs(), config, directory, client)


def load_user(directory: Path, client: Sequence[str] = PODMAN) -> str:
    """The same, with a user of its own: 1234, who has no name."""
    return _load(USER_IMAGE, _programs(), {"Env": ["PATH=/bin"], "User": "1234:1234"}, directory, client)


def load_bare(directory: Path, client: Sequence[str] = PODMAN) -> str:
    """Load an image that holds busybox as /bin/busybox, and neither a shell nor anything else by its name."""
    return load_program(_busybox(), directory, client)


def _busybox() -> Path:
    found = shutil.which("busybox")
    if found is None:
        pytest.skip("busybox is not installed (Debian: apt-get install busybox-static)")
    return Path(found)


def _programs() -> bytes:
    """A layer with each of busybox's programs by its name."""
    busybox = _busybox()
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    return _tar(
        {
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
            "bin/busybox": busybox.read_bytes(),
        },
        directories=("bin", "etc", "home", "root", "usr", "var"),
        links={f"bin/{one}": "busybox" for one in applets if one != "busybox"},
    )


def load_program(program: Path, directory: Path, client: Sequence[str] = PODMAN) -> str:
    """Load an image that holds one static program as /bin/NAME and no more: no shell, no libc, no /etc, no /tmp."""
    data = program.read_bytes()
    name = f"localhost/tesk-test-{program.name}:{hashlib.sha256(data).hexdigest()[:12]}"
    layer = _tar({f"bin/{program.name}": data}, directories=("bin",), tmp=False)
    return _load(name, layer, {"Env": ["PATH=/bin"], "WorkingDir": "/made/by the image"}, directory, client)


def find_debian() -> str:
    """The name of a Debian image that podman holds; skips where it holds none."""
    if subprocess.run(["podman", "image", "exists", DEBIAN], check=False).returncode != 0:
        pytest.skip(f"podman holds no image {DEBIAN} (any Debian will do: podman tag debian:12 {DEBIAN})")
    return DEBIAN


def _load(name: str, layer: bytes, config: Mapping[str, object], directory: Path, client: Sequence[str]) -> str:
    found = subprocess.run([*client, "image", "inspect", name], check=False, capture_output=True)
    if found.returncode != 0:
        archive = directory / "image.tar"
        archive.write_bytes(_archive(name, layer, config))
        subprocess.run([*client, "load", "-q", "-i", archive], check=True, capture_output=True)
    return name


def _archive(name: str, layer: bytes, config: Mapping[str, object]) -> bytes:
    """A docker-archive with one layer."""
    image = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    return _tar({"config.json": image, "layer.tar": layer, "manifest.json": manifest})


def _tar(
    files: dict[str, bytes],
    directories: tuple[str, ...] = (),
    links: dict[str, str] | None = None,
    *,
    tmp: bool = True,
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in directories:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        if tmp:
            entry = tarfile.TarInfo("tmp")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()
