"""Many tasks at once on one server and in one namespace, each held at its step until its fault has struck."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightkube.resources.core_v1 import Pod

from tests.behaviour.sites import BACKENDS, Ground, Site
from tests.kube.cluster import HOST, Cluster
from tests.kube.faults.gates import GateKeeper, Passed, gate_keeper
from tests.kube.faults.late import LateImage
from tests.kube.faults.machine import Machine, until
from tests.kube.faults.strikes import (
    strike,
    strike_in_clean_up,
    strike_pod,
    strike_pod_in_clean_up,
    strike_pulling,
    wait_until_held,
)
from tests.kube.faults.table import Case, Layout
from tests.kube.faults.verdict import complaints
from tests.kube.image import BUSYBOX
from tests.kube.space import Space, new_space

__all__ = ["Campaign", "Run", "campaign"]

_AT_ONCE = 8
"""How many tasks are between their start and their step at a time: more only wait for the machine's processors."""

_ARRIVES, _ENDS, _SETTLES = 300.0, 600.0, 180.0
_PULLS_ON = 5.0
_TERMINAL = ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED")
_FINALIZER = "tesk-test/hold"


@dataclass
class Run:
    """One task of a campaign; `name` is what its gates know it by, `note` what to say of it besides."""

    case: Case
    name: str
    passed: Passed
    id: str
    note: str = ""


class Campaign:
    """A server over a namespace of its own, and the tasks that run there.

    Nothing of TESK's gets a node but while the node has a label, and stage-in of a task that is held before it needs
    another one.
    """

    def __init__(
        self, site: Site, space: Space, machine: Machine, gates: GateKeeper, seed: int, layout: Layout
    ) -> None:
        self.site = site
        self.layout = layout
        self.machine = machine
        self.ended: dict[str, dict[str, Any]] = {}
        """The tasks that were judged, FULL, by name."""
        self.held: list[str] = []
        """The ids of the tasks that `together` holds."""
        self._space = space
        self._gates = gates
        self._seed = seed
        self._names = (f"task-{number}" for number in range(10**6))

    def alone(self, cases: Sequence[Case]) -> list[str]:
        """Strike each task by itself; what is wrong afterwards."""
        runs = self._each([one for one in cases if one.step == "before"], self._strike_one)
        with self._room():
            runs += self._each([one for one in cases if one.step == "taskmaster"], self._strike_one)
            with self._room(for_stage_in=True):
                runs += self._each([one for one in cases if one.step not in ("before", "taskmaster")], self._strike_one)
                return self._judge(runs)

    def together(
        self,
        cases: Sequence[Case],
        away: AbstractContextManager[object],
        opens_meanwhile: Callable[[int], bool] = lambda _: False,
    ) -> list[str]:
        """Have each task at its step, then enter and leave `away`; what is wrong afterwards.

        A task that is to be before its first step has just been sent. Nodes refuse pods for labels that they have not
        heard of yet, so that no executor may wait for one.
        `opens_meanwhile` says, by number, which of the gates is opened before `away` is left.
        """
        with self._room():
            runs = self._each([one for one in cases if one.step != "before"], self._hold_one)
            runs += self._each([one for one in cases if one.step == "before"], lambda run: None)
            self.held = [run.id for run in runs]
            with away:
                for number, run in enumerate(runs):
                    if opens_meanwhile(number):
                        run.passed.opened.set()
            for run in runs:
                run.passed.opened.set()
                if run.case.step == "clean-up":
                    self.machine.hold_claim(f"{run.id}-pvc", None)
            with self._room(for_stage_in=True):
                return self._judge(runs)

    def pulling(self, cases: Sequence[Case], late: LateImage) -> list[str]:
        """Strike tasks of layout `pod` while executor 1's image is pulled; what is wrong afterwards.

        Until that pull has failed, the kubelet neither tells nor ends anything of the pod. Later attempts have the
        image.
        """
        with self._room(), self._room(for_stage_in=True):
            runs = self._each(cases, self._wait_for_pull, late.name)
            late.arrive()
            firsts = [strike_pulling(self.machine, run.case, run.id) for run in runs]
            time.sleep(_PULLS_ON)
            found = [one for run, first in zip(runs, firsts, strict=True) for one in self._beside(run, first)]
            late.fail()
            for run, first in zip(runs, firsts, strict=True):
                until(lambda run=run: self._second(run))
                found += self._beside(run, first)
                run.passed.opened.set()
            return found + self._judge(runs)

    def _second(self, run: Run) -> Pod | None:
        return self.machine.pod_named(f"{run.id}-a2")

    def _beside(self, run: Run, first: Pod) -> list[str]:
        """What is wrong when the second attempt is there and something of the first one runs."""
        if self._second(run) is None or not self.machine.processes(first):
            return []
        return [f"{run.case} ({run.id}): its first attempt still ran when the second was there"]

    def _wait_for_pull(self, run: Run) -> None:
        """Executor 0 runs, or has ended if its step is the next one's, and the image of that is pulled."""
        if run.case.step == "executor-0":
            assert run.passed.arrived.wait(_ARRIVES), f"{run.case} did not come to its step: {self._task(run)}"
        else:
            until(lambda: any(one.get("logs") for one in self._task(run).get("logs") or ()))
        pod = until(lambda: self.machine.pod_named(run.id))
        until(lambda: self.machine.pulls(pod, "ex-01"))

    def _each(self, cases: Iterable[Case], work: Callable[[Run], None], late: str = BUSYBOX) -> list[Run]:
        """A task for each case, and `work` done on it; `late` is the image of its executor 1."""

        def one(case: Case) -> Run:
            run = self._create(case, late)
            work(run)
            return run

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(one, cases))

    def _create(self, case: Case, late: str) -> Run:
        name = next(self._names)
        held = "stage-out" if case.step == "clean-up" else case.step
        passed = self._gates.expect(name, held)
        resources = {"backend_parameters": {f"node_selector.{_stage_in(self._space)}": "yes"}}
        more = {"resources": resources} if case.step == "taskmaster" else {}
        return Run(case, name, passed, self.site.create(self._gates.task(name, (BUSYBOX, late), **more)))

    def _arrive(self, run: Run) -> None:
        if run.case.step in ("before", "taskmaster"):
            wait_until_held(self.machine, run.case.step, run.id)
        else:
            assert run.passed.arrived.wait(_ARRIVES), f"{run.case} did not come to its step: {self._task(run)}"

    def _strike_one(self, run: Run) -> None:
        self._arrive(run)
        machine, case, passed = self.machine, run.case, run.passed
        chance = random.Random(f"{self._seed} {run.name}")
        if case.step == "clean-up" and self.layout == "pod":
            run.note = strike_pod_in_clean_up(
                machine, case, run.id, passed.opened.set, lambda: passed.delivered, chance
            )
        elif case.step == "clean-up":
            run.note = strike_in_clean_up(machine, case, run.id, passed.opened.set, chance)
        else:
            (strike_pod if self.layout == "pod" else strike)(machine, case, run.id)
        passed.opened.set()

    def _hold_one(self, run: Run) -> None:
        """Bring a task to its step; to hold it in clean-up, its claim is kept from going."""
        self._arrive(run)
        if run.case.step == "clean-up":
            self.machine.hold_claim(f"{run.id}-pvc", _FINALIZER)
            run.passed.opened.set()
            until(lambda: self._task(run)["state"] in _TERMINAL)

    def _judge(self, runs: Sequence[Run]) -> list[str]:
        """Wait until all have ended; one line for each complaint."""
        found = []
        end = time.monotonic() + _ENDS
        for run in runs:
            while (task := self._task(run))["state"] not in _TERMINAL and time.monotonic() < end:
                time.sleep(0.3)
            self.ended[run.name] = task
            wrong = complaints(run.case, task, run.passed.starts, run.passed.delivered, self._gates.output_of(run.name))
            print(_line(run, task, wrong), flush=True)
            found += [f"{run.case} ({run.id}): {one}" for one in wrong]
            if wrong:
                print(json.dumps(task.get("logs"), indent=1), flush=True)
        found += [f"{one} is left" for one in self._space.left(seconds=_SETTLES)]
        return found

    def _task(self, run: Run) -> dict[str, Any]:
        return self.site.get(run.id)

    @contextlib.contextmanager
    def _room(self, *, for_stage_in: bool = False) -> Iterator[None]:
        """The node takes pods meanwhile."""
        key = _stage_in(self._space) if for_stage_in else _any_step(self._space)
        self.machine.label_node(key, "yes")
        try:
            yield
        finally:
            self.machine.label_node(key, None)


@contextlib.contextmanager
def campaign(
    cluster: Cluster, image: str, directory: Path, seed: int, layout: Layout = "jobs", **settings: str
) -> Iterator[Campaign]:
    """A server with a place for tasks; its namespace goes afterwards."""
    cluster.need_here()
    with gate_keeper(HOST) as gates, new_space(cluster, "faults", wait=False) as space:
        given = {
            "TESK_KUBERNETES_LAYOUT": layout,
            "TESK_KUBERNETES_KUBECONFIG": str(space.kubeconfig("tesk", directory)),
            "TESK_KUBERNETES_NAMESPACE": space.name,
            "TESK_KUBERNETES_EXECUTOR_SERVICE_ACCOUNT": "tesk-executor",
            "TESK_KUBERNETES_NODE_SELECTOR": json.dumps({_any_step(space): "yes"}),
            "TESK_KUBERNETES_ALLOWED_NODE_SELECTOR_KEYS": json.dumps([_stage_in(space)]),
            "TESK_KUBERNETES_START_TIMEOUT": "240",
            "TESK_KUBERNETES_KEEP_FINISHED": "1",
            "TESK_KUBERNETES_MAX_ACTIVE": "100",
            "TESK_STORAGE_STALL_TIMEOUT": "300",
            "TESK_STORAGE_FILE_ROOTS": "",
            **settings,
        }
        place = BACKENDS["kubernetes"](directory)
        site = Site(place, directory, given, ground=Ground({}, lambda: space.left(seconds=_SETTLES)))
        try:
            site.start()
            with contextlib.closing(Machine(space)) as machine:
                yield Campaign(site, space, machine, gates, seed, layout)
        finally:
            if site.process is not None and site.process.poll() is None:
                site.stop()


def _any_step(space: Space) -> str:
    return f"tesk-test/{space.name}"


def _stage_in(space: Space) -> str:
    return f"tesk-test/{space.name}-in"


def _line(run: Run, task: dict[str, Any], wrong: Sequence[str]) -> str:
    logs = task.get("logs") or [{}]
    lost = "; ".join(one for log in logs[:-1] for one in log.get("system_logs") or ())
    note = f" ({run.note})" if run.note else ""
    return f"{'WRONG' if wrong else 'ok':5} {run.case!s:32}{note} {task['state']} in {len(logs)} {lost}"
