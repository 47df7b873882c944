"""As whom filers log in to FTP servers, by what the site's Secret holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.behaviour.sites import sentences
from tests.kube.cluster import HOST, Cluster
from tests.kube.serving import serving
from tests.kube.space import new_space
from tests.servers import serving_ftp

pytestmark = pytest.mark.kube


@pytest.mark.parametrize("layout", ["jobs", "pod"])
def test_a_netrc_file_in_the_secret_is_used_for_its_hosts(
    cluster: Cluster, image: str, tmp_path: Path, layout: str
) -> None:
    cluster.need_here()
    with serving_ftp(tmp_path / "ftp", host=HOST) as ftp, new_space(cluster, "logins", wait=False) as space:
        (ftp.directory / "in").write_text("hello")
        secret = space.secret("storage", {"netrc": f"machine {HOST} login me password p@ss/word\n"})
        with serving(space, tmp_path / "server", image=image, layout=layout, storage_secret=secret) as site:
            task = site.run(
                site.shell(
                    "cat /data/in >/data/out",
                    inputs=[{"url": f"{ftp.url}/in", "path": "/data/in"}],
                    outputs=[{"url": f"{ftp.url}/out", "path": "/data/out"}],
                )
            )
            assert task["state"] == "COMPLETE", sentences(task)
            assert (ftp.directory / "out").read_text() == "hello"
            assert set(ftp.commands("USER")) == {"me"}
