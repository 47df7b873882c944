"""`python -m tests.kube`: have the cluster up and TESK's image in it, which may take minutes the first time."""

from __future__ import annotations

import sys
import time

import pytest

from tests.kube.cluster import find_cluster
from tests.kube.image import load_image


def main() -> None:
    """Say what is there, or why the tests will skip."""
    start = time.monotonic()
    try:
        cluster = find_cluster()
        print(f"the cluster of {cluster.kubeconfig} answers ({time.monotonic() - start:.0f} s)", flush=True)
        print(f"it has the image {load_image(cluster)} ({time.monotonic() - start:.0f} s)", flush=True)
    except pytest.skip.Exception as reason:
        print(f"tests on a cluster will be skipped: {reason}", file=sys.stderr)


main()
