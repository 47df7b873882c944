"""`python -m tests.kube.demo`: the demo on a cluster in both layouts, each in a namespace that goes afterwards, with
files in S3.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.behaviour.sites import BACKENDS, Site
from tests.cli.command import environment
from tests.kube.cluster import HOST, find_cluster
from tests.kube.place import prepare
from tests.servers import serving_s3

LAYOUTS = {"jobs": "kubernetes", "pod": "kubernetes-pod"}
"""The places of the behaviour suite."""


def main() -> int:
    """The first exit code of a demo that is not 0; 0 with a reason where there is no such cluster."""
    try:
        return next((code for layout in LAYOUTS if (code := _show(layout)) != 0), 0)
    except pytest.skip.Exception as reason:
        print(f"the demo on a cluster is skipped: {reason}", file=sys.stderr)
        return 0


def _show(layout: str) -> int:
    print(f"\nlayout {layout}\n", flush=True)
    with ExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="tesk-demo-kube-")))
        return _run(layout, directory, opened)


def _run(layout: str, directory: Path, opened: ExitStack) -> int:
    place = BACKENDS[LAYOUTS[layout]](directory)
    s3 = opened.enter_context(serving_s3(directory, HOST))
    s3.bucket("demo")
    cluster = find_cluster()
    site = Site(replace(place, prepare=lambda one: prepare(cluster, one.directory, one.files, s3)), directory / "site")
    opened.callback(site.close)
    site.start()
    opened.callback(site.stop)
    where = ("--server", site.url, "--files", "s3://demo/fastq", "--image", place.image)
    command = [sys.executable, "-m", "tesk", "demo", *where]
    return subprocess.run(command, env=environment(**s3.environment), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
