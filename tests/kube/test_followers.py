"""Many who follow one executor on the cluster, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.backends.crowd import crowd
from tests.behaviour.sites import Site
from tests.kube.cluster import Cluster
from tests.kube.serving import serving
from tests.kube.space import new_space

pytestmark = pytest.mark.kube

MANY = 200
LINES = 30


def connections(site: Site, port: int) -> int:
    """How many connections to `port` the server's process has."""
    assert site.process is not None
    ours = set()
    for one in Path(f"/proc/{site.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if found := re.match(r"socket:\[(\d+)\]", str(one.readlink())):
                ours.add(found[1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" and row[9] in ours for row in rows)


@pytest.mark.parametrize("layout", ["jobs", "pod"])
def test_two_hundred_hear_the_same_over_one_connection(
    cluster: Cluster, image: str, tmp_path: Path, layout: str
) -> None:
    script = f"sleep 5; for i in $(seq {LINES}); do echo line $i; echo error $i >&2; sleep 0.1; done; sleep 5"
    with (
        new_space(cluster, "followers", wait=False) as space,
        serving(space, tmp_path / "server", image=image, layout=layout) as site,
    ):
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        port = urlsplit(config["clusters"][0]["cluster"]["server"]).port
        assert port is not None
        task = site.create(site.shell(script))
        site.wait(task, "RUNNING")

        async def follow() -> tuple[set[bytes], set[bytes], int]:
            path = f"/ga4gh/tes/v1/tasks/{task}/logs?follow=true"
            alone = connections(site, port)
            async with (
                crowd(site.url, path, MANY) as outs,
                crowd(site.url, path + "&stream=stderr", MANY // 2) as errors,
            ):
                while not all(one.heard for one in [*outs, *errors]):
                    await asyncio.sleep(0.1)
                shared = connections(site, port) - alone
                return {await one.over() for one in outs}, {await one.over() for one in errors}, shared

        heard, errors, shared = asyncio.run(follow())
        assert heard == {"".join(f"line {number}\n" for number in range(1, LINES + 1)).encode()}
        assert errors == {"".join(f"error {number}\n" for number in range(1, LINES + 1)).encode()}
        assert shared <= 1
        assert site.wait(task)["state"] == "COMPLETE"
