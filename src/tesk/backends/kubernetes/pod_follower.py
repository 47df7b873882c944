"""The server's eyes on attempts that are one pod each: what they report, what they wait for, and how they are lost."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from dataclasses import dataclass
from typing import Protocol

from lightkube.models.core_v1 import Event
from lightkube.resources.core_v1 import Pod

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.errors import ClusterError
from tesk.backends.kubernetes.following import read_reports
from tesk.backends.kubernetes.held import Held
from tesk.backends.kubernetes.observation import Observation, Waiting
from tesk.backends.kubernetes.observe import observe_pod
from tesk.backends.kubernetes.patience import Patience
from tesk.backends.kubernetes.pod_facts import uid_of
from tesk.backends.kubernetes.turn_waits import evicted_end, never_started, start_waits, turn_waits
from tesk.backends.kubernetes.watch import Watch
from tesk.taskmaster.report import Report
from tesk.taskmaster.run import now
from tesk.taskmaster.steps import StepFailed
from tesk.tes.states import State

__all__ = ["Keeper", "PodFollower"]

log = logging.getLogger(__name__)

_LOOK_AGAIN = 2.0


class Keeper(Protocol):
    """Who holds the attempts: the backend."""

    def tell(self, held: Held, report: Report) -> None:
        """Hand on what is known now."""

    def take(self, key: AttemptKey, report: Report, number: int) -> None:
        """Take what a taskmaster reports, as its report `number` (from 1)."""

    async def lose(self, held: Held, seen: Observation) -> None:
        """The attempt is lost, unless it has its last report."""

    def patience(self, held: Held, what: str, *, endless: bool = False) -> Patience:
        """How long `what` of the attempt may wait; `endless`: for what waiting cures, whatever the site says."""

    def events_of(self, held: Held) -> list[Event]:
        """The events about it."""


@dataclass(slots=True)
class _Watched:
    """An attempt, the pod that it was made as, how patient each executor's turn is (-1: the pod itself), and the task
    that reads its reports. `going`: the patience with a pod that is being taken away. `fresh`: `made` is the answer to
    the request that made it. `over`: there is no more to see.
    """

    held: Held
    made: Pod
    turns: dict[int, Patience]
    reading: asyncio.Task[None] | None = None
    going: Patience | None = None
    fresh: bool = True
    over: bool = False

    @property
    def name(self) -> str:
        assert self.made.metadata is not None
        assert self.made.metadata.name is not None
        return self.made.metadata.name


class PodFollower:
    """`pods` are those of all attempts by name."""

    def __init__(self, cluster: Cluster, pods: Watch[Pod, Pod], keeper: Keeper) -> None:
        self._cluster = cluster
        self._pods = pods
        self._keeper = keeper

    async def follow(self, held: Held, made: Pod, patience: Patience) -> None:
        """Watch the pod of an attempt until its last report: what it waits for, and whether it is lost."""
        watched = _Watched(held, made, {-1: patience})
        try:
            while not held.ended and not watched.over:
                moved, seconds = held.moved, None
                try:
                    seconds = await self._look(watched)
                except ClusterError as error:  # nothing is known, so nothing is done
                    log.warning("attempt %s cannot be looked at: %s", held.key, error)
                    seconds = _LOOK_AGAIN
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await moved.wait()
        finally:
            if watched.reading is not None:
                watched.reading.cancel()

    async def _look(self, watched: _Watched) -> float | None:
        """See what has become of the pod; for how many seconds at most nothing need be done, None: until it moves.

        What was looked at is not kept while it waits: thousands may.
        """
        held = watched.held
        pod = await self._pod_of(watched)
        watched.fresh = False
        events = self._keeper.events_of(held)
        seen = observe_pod(pod, events, container="taskmaster")
        if pod is None and held.calls and seen.lost is not None:
            # deleted by force, which takes it out of the API alone: what calls us still runs
            seen = dataclasses.replace(seen, lost=dataclasses.replace(seen.lost, may_run=True))
        if watched.reading is None and (seen.ended or (seen.started and not held.calls)):
            watched.reading = asyncio.create_task(self._read(held, watched.name), name=f"reports of {watched.name}")
        if seen.ended is not None or (seen.lost is not None and not seen.lost.may_run):
            if watched.reading is not None:
                await asyncio.wait([watched.reading])
            await self._end(held, pod, seen)
            watched.over = True
            return None
        if seen.scheduled and held.report is None:
            self._keeper.tell(held, Report(State.INITIALIZING, system_logs=held.waits))
        if seen.lost is not None:
            watched.going = watched.going or self._keeper.patience(held, "the task", endless=True)
            return watched.going.wait(seen.lost.waiting)
        turn, waiting = _next_turn(held, pod, seen, events)
        if turn not in watched.turns:
            watched.turns[turn] = self._keeper.patience(held, f"executor {turn}")
            watched.turns[-1].renew()
        if waiting is None:
            watched.turns[turn].renew()
            return None
        return watched.turns[turn].wait(waiting)

    async def _end(self, held: Held, pod: Pod | None, seen: Observation) -> None:
        """The taskmaster has ended, and all that it told was read."""
        if held.ended or seen.ended is None or seen.ended.reason != "Evicted":
            await self._keeper.lose(held, seen)
            return
        # The pod has used more of its node's disk than it may: the end of the executor that ran, or of the task.
        known = held.report or Report(State.SYSTEM_ERROR, system_logs=held.waits)
        index = len(known.executors)
        end = evicted_end(pod, known) if known.state is State.RUNNING else None
        if end is None:
            raise StepFailed(f"the task: {seen.ended.problem}")
        sentence = f"executor {index} was ended by signal 9: {seen.ended.problem}"
        self._keeper.tell(
            held,
            dataclasses.replace(
                known,
                state=State.EXECUTOR_ERROR,
                end_time=now(),
                executors=(*known.executors, end),
                system_logs=(*known.system_logs, sentence),
            ),
        )

    async def _read(self, held: Held, name: str) -> None:
        """Take the reports that the taskmaster of the pod `name` tells."""

        def over() -> bool:
            pod = self._pods.objects.get(name)
            return pod is None or observe_pod(pod, [], container="taskmaster").ended is not None

        async with contextlib.aclosing(read_reports(self._cluster, name, over)) as reports:
            async for report, number in reports:
                self._keeper.take(held.key, report, number)

    async def _pod_of(self, watched: _Watched) -> Pod | None:
        """The pod as it is now; None when it is surely gone."""
        made, name = watched.made, watched.name
        there = self._pods.objects.get(name)
        if there is None or uid_of(there) != uid_of(made):
            if watched.fresh:  # so that a watch that lacks it is behind
                return made
            there = await self._cluster.get(Pod, name)  # the watch may lag behind
        return there if there is not None and uid_of(there) == uid_of(made) else None


def _next_turn(held: Held, pod: Pod | None, seen: Observation, events: list[Event]) -> tuple[int, Waiting | None]:
    """Which executor comes next, and what it waits for; -1 and what the pod waits for while no taskmaster runs."""
    if pod is None or held.report is None or not seen.started:
        return -1, start_waits(pod, seen.waiting, events)
    turn = len(held.report.executors)
    if fault := never_started(pod, turn):
        raise StepFailed(fault)
    return turn, seen.waiting or turn_waits(pod, turn, events)
