"""Small container images for tests, made from static busybox with no engine and no registry."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

__all__ = ["IMAGE", "load_busybox"]

IMAGE = "localhost/tesk-test-busybox:1"


def load_busybox(directory: Path) -> str:
    """Load an image with busybox's programs into podman, once a machine, and give its name.

    Skips where podman cannot start containers or static busybox is absent.
    """
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed (Debian: apt-get install podman runc)")
    probe = subprocess.run(
        ["podman", "run", "--rm", "--network=none", "--rootfs", "/:O", "true"], capture_output=True, check=False
    )
    if probe.returncode != 0:
        said = probe.stderr.decode().strip().splitlines()
        pytest.skip(f"podman cannot start a container here: {said[-1] if said else 'it said nothing'}")
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed (Debian: apt-get install busybox-static)")
    known = subprocess.run(["podman", "image", "exists", IMAGE], check=False)
    if known.returncode != 0:
        archive = directory / "busybox.tar"
        archive.write_bytes(_archive(Path(busybox)))
        subprocess.run(["podman", "load", "-q", "-i", archive], check=True, capture_output=True)
    return IMAGE


def _archive(busybox: Path) -> bytes:
    """A docker-archive with one layer."""
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    layer = _tar(
        {
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
            "bin/busybox": busybox.read_bytes(),
        },
        directories=("bin", "etc", "home", "root", "usr", "var"),
        links={f"bin/{one}": "busybox" for one in applets if one != "busybox"},
    )
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/echo", "the entrypoint must not run"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).encode()
    return _tar({"config.json": config, "layer.tar": layer, "manifest.json": manifest})


def _tar(files: dict[str, bytes], directories: tuple[str, ...] = (), links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in directories:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(tmp)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()
