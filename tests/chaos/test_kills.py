"""A server that is killed again and again while tasks come, run, fail and are canceled."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.behaviour.sites import BACKENDS, Site
from tests.chaos.checker import leftovers, wrong_files, wrong_histories, wrong_records
from tests.chaos.work import Work, draw

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

LEFT_SECONDS = 5.0
RESTART_SECONDS = 30.0
END_SECONDS = 90.0
API = "/ga4gh/tes/v1/tasks"


class Clients:
    """Those who create, cancel and watch, while the server comes and goes; what goes wrong there ends the test."""

    def __init__(self, site: Site, works: list[Work], chance: random.Random) -> None:
        self.site = site
        self.works = works
        self.ids: list[str] = []
        self.seen: dict[str, list[str]] = {}
        self.faults: list[BaseException] = []
        self._chance = chance
        self._over = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Until the block ends."""
        threads = [threading.Thread(target=self._guarded, args=(one,)) for one in (self._create, self._watch)]
        for one in threads:
            one.start()
        try:
            yield
        finally:
            self._over.set()
            for one in threads:
                one.join()
        assert not self.faults, self.faults

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.faults.append(error)

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request, repeated until a server answers it."""
        end = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                answer = httpx.request(method, self.site.url + path, timeout=10, **more)
            except httpx.TransportError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
            else:
                return answer.raise_for_status()

    def _create(self) -> None:
        """Each under a key of its own, so that an answer that was lost makes no second task; then cancel in time."""
        due: list[tuple[float, str]] = []
        for number, work in enumerate(self.works):
            time.sleep(self._chance.uniform(0.0, 0.2))
            answer = self._ask("POST", API, json=work.body, headers={"Idempotency-Key": f"work-{number}"})
            self.ids.append(answer.json()["id"])
            if work.cancel_after is not None:
                due.append((time.monotonic() + work.cancel_after, self.ids[-1]))
            due = self._cancel(due)
        while due:
            time.sleep(0.05)
            due = self._cancel(due)

    def _cancel(self, due: list[tuple[float, str]]) -> list[tuple[float, str]]:
        now = time.monotonic()
        for at, id in due:
            if at <= now:
                self._ask("POST", f"{API}/{id}:cancel")
        return [one for one in due if one[0] > now]

    def _watch(self) -> None:
        while not self._over.wait(0.03):
            for id, state in self.states().items():
                states = self.seen.setdefault(id, [])
                if states[-1:] != [state]:
                    states.append(state)

    def states(self) -> dict[str, str]:
        """Of every task that the server knows."""
        listed = self._ask("GET", API, params={"page_size": 2047}).json()["tasks"]
        return {one["id"]: one["state"] for one in listed}


@pytest.mark.parametrize(("engine", "count", "kills", "at_once"), [("sandbox", 200, 20, 16), ("podman", 40, 8, 6)])
def test_a_server_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, request: pytest.FixtureRequest, engine: str, count: int, kills: int, at_once: int
) -> None:
    seed: int = request.config.getoption("seed")
    chance = random.Random(seed)
    settings = {"TESK_LOCAL_CPU_CORES": str(at_once), "TESK_TASKS_MAX_ATTEMPTS": "100"}
    site = Site(BACKENDS[engine](tmp_path), tmp_path / "site", settings)
    inputs, outputs = site.files / "inputs", site.files / "outputs"
    for one in (inputs, outputs):
        one.mkdir(parents=True)
    clients = Clients(site, draw(seed, count, inputs, outputs, site.place.image), chance)
    with site.running():
        with clients.running():
            for _ in range(kills):
                time.sleep(chance.uniform(0.0, 1.5))
                site.kill()
                site.start()
            states = _ended(clients)
        lost = sum(max(0, len(site.get(id).get("logs", [])) - 1) for id in clients.ids)
        site.stop()  # what is left then is nobody's
        tasks = dict(zip(clients.ids, clients.works, strict=True))
        wrong = [
            *wrong_records(next(site.state.glob("*.db")), tasks),
            *wrong_files(outputs, tasks, states),
            *wrong_histories(clients.seen),
            *_still_left(site),
        ]
        site.start()
    assert not wrong, f"seed {seed}: {len(wrong)} faults\n" + "\n".join(wrong[:40])
    request.node.user_properties.append(
        ("figure", f"{kills} kills, {count} tasks in {engine}: {lost} attempts were lost")
    )


def _ended(clients: Clients) -> dict[str, str]:
    """The states once every task has been created and has ended."""
    end = time.monotonic() + END_SECONDS
    while True:
        states = clients.states()
        if len(clients.ids) == len(clients.works) and not {"QUEUED", "INITIALIZING", "RUNNING", "CANCELING"} & set(
            states.values()
        ):
            return states
        assert not clients.faults, clients.faults
        assert time.monotonic() < end, (
            f"not ended in time: { {one: s for one, s in states.items() if s != 'COMPLETE'} }"
        )
        time.sleep(0.1)


def _still_left(site: Site) -> list[str]:
    """What is left, once what is just ending had time to."""
    end = time.monotonic() + LEFT_SECONDS
    while (found := leftovers(site.directory, site.state)) and time.monotonic() < end:
        time.sleep(0.1)
    return found
