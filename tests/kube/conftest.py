"""A cluster, TESK's image in it, and a namespace, once for each process that runs tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kube.cluster import HOST, Cluster, find_cluster
from tests.kube.image import load_image
from tests.kube.space import Space, new_space
from tests.servers import S3Server, serving_s3

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a process may start a cluster and build the image."""
    for item in items:
        if item.path.is_relative_to(_HERE) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster of KUBECONFIG, or that of ../shared/kube."""
    return find_cluster()


@pytest.fixture(scope="session")
def image(cluster: Cluster) -> str:
    """The name under which the cluster has TESK's image, made from this checkout."""
    return load_image(cluster)


@pytest.fixture(scope="session")
def space(cluster: Cluster) -> Iterator[Space]:
    """A namespace with TESK's service accounts and Roles; at the end it is deleted, which is awaited."""
    with new_space(cluster) as made:
        yield made


@pytest.fixture(scope="session")
def s3(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server of this machine that pods reach; `bucket` makes a bucket."""
    cluster.need_here()
    with serving_s3(tmp_path_factory.mktemp("s3"), HOST) as server:
        yield server
