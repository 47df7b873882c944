"""A whole server, and the clients of other projects, each in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.behaviour.sites import BACKENDS, Site
from tests.venvs import NoIndex, venv_python

HERE = Path(__file__).parent


class Refused(Exception):
    """What the client raised, as `Type: message`."""


class Speaker:
    """A process of another project's client, and the server that it alone speaks with."""

    def __init__(self, name: str, python: Path, program: Path, site: Site) -> None:
        self.name = name
        self.site = site
        self.process = subprocess.Popen(
            [python, "-W", "ignore", program, site.url],
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __call__(self, call: str, **arguments: Any) -> Any:
        """Make one call; Refused when the client raises."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"call": call, "with": arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{self.name} has ended: {self.process.poll()}"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def end(self) -> None:
        """Close its stdin, at which it ends."""
        self.process.communicate(timeout=10)


NewSite = Callable[..., Site]
Start = Callable[[str, str], Speaker]


@pytest.fixture(scope="session")
def start(new_site: NewSite) -> Iterator[Start]:
    """Start a client and a server for it: the name of its requirements, and the program that drives it."""
    started: dict[str, Speaker] = {}

    def begin(name: str, program: str) -> Speaker:
        if name not in started:
            try:
                python = venv_python(HERE / "requirements" / f"{name}.txt")
            except NoIndex as reason:
                pytest.skip(str(reason))
            started[name] = Speaker(name, python, HERE / program, new_site())
        return started[name]

    yield begin
    for one in started.values():
        one.end()


@pytest.fixture(scope="session")
def new_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewSite]:
    """Start a server as `tesk serve` does it, with further settings; it is ended with the run."""
    started: list[Site] = []

    def begin(**settings: str) -> Site:
        place = BACKENDS["sandbox"](tmp_path_factory.mktemp("place"))
        site = Site(place, tmp_path_factory.mktemp("site"), {"TESK_LOCAL_CPU_CORES": "8", **settings})
        try:
            site.start()
        except AssertionError as error:
            if "no engine works" in str(error):
                pytest.skip(f"the sandbox does not work here; allow user namespaces: {error}")
            raise
        started.append(site)
        return site

    yield begin
    for one in started:
        assert one.stop() == 0
        one.close()
