"""A running server for each backend; one for the tests that leave it running, a new one for those that end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.behaviour.sites import BACKENDS, Place, Site

_HERE = Path(__file__).parent
_SLOW = {
    "podman": ("test_life.py", "test_retries.py"),
    "docker": ("test_files.py", "test_life.py", "test_limits.py", "test_retries.py", "test_transfers.py"),
    "podman-shared": ("test_shared.py",),
    "docker-shared": ("test_shared.py",),
}
"""A life in containers takes ten times as long as one in the sandbox, and docker's differ little from podman's."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where files are shared, the tests are those of shared files; on the quickest backend all.

    Of these, those that share no file differ little.
    """
    for item in list(items):
        place = _place(item)
        if place is None:
            continue
        name = item.path.name
        if place == "sandbox-shared":
            slow = name != "test_shared.py"
        elif (name == "test_shared.py") is not place.endswith("-shared"):
            items.remove(item)
            continue
        else:
            slow = name in _SLOW.get(place, ())
        if slow:
            item.add_marker(pytest.mark.slow)


def _place(item: pytest.Item) -> str | None:
    """Where a test of this directory runs; None for any other."""
    if item.path.parent != _HERE or not isinstance(item, pytest.Function):
        return None
    return str(item.callspec.params["place"]) if hasattr(item, "callspec") and "place" in item.callspec.params else None


_ON_A_CLUSTER = [pytest.mark.kube, pytest.mark.timeout(600)]
_MARKS = {one: _ON_A_CLUSTER for one in BACKENDS if one.startswith("kubernetes")}


@pytest.fixture(scope="session", params=[pytest.param(one, marks=_MARKS.get(one, [])) for one in BACKENDS])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One backend after the other."""
    found: Place = BACKENDS[request.param](tmp_path_factory.mktemp("place"))
    yield found
    found.end()


@pytest.fixture(scope="session")
def shared_site(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server a backend."""
    site = Site(place, tmp_path_factory.mktemp("site"), {**place.room(8)})
    try:
        site.start()
        yield site
        site.left()  # what it is just removing
        assert site.stop() == 0
        assert site.left() == []
    finally:
        site.close()


@pytest.fixture
def site(shared_site: Site) -> Site:
    """The shared server, with an empty directory of files."""
    for one in shared_site.files.iterdir():
        _remove(one)
    return shared_site


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for one in path.iterdir():
            _remove(one)
        path.rmdir()
    else:
        path.unlink()


@pytest.fixture
def own_site(place: Place, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes servers of the test's own, with further settings; they are ended after it."""
    made: list[Site] = []

    def make(**settings: str) -> Site:
        site = Site(place, tmp_path / f"site-{len(made)}", settings)
        site.directory.mkdir()
        made.append(site)
        site.start()
        return site

    yield make
    for site in made:
        if site.process is None:  # the place could not be prepared, which the test has told
            continue
        if site.process.poll() is None:
            site.stop()
        site.close()
