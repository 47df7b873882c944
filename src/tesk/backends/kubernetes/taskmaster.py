"""The taskmaster as it runs in a pod: one attempt's steps as Jobs, and its report where the server finds it.

It may be killed at any instruction: the next one finds the same Jobs and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

from lightkube.resources.core_v1 import ConfigMap

from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.errors import ClusterError
from tesk.backends.kubernetes.labels import selector_of
from tesk.backends.kubernetes.mounted import Handout, read_attempt
from tesk.backends.kubernetes.names import report_name
from tesk.backends.kubernetes.report_map import make_report_config_map, read_report
from tesk.backends.kubernetes.scene import Scene
from tesk.backends.kubernetes.steps import AWAY_SECONDS, JobSteps
from tesk.backends.kubernetes.words import stamp
from tesk.taskmaster.report import Report
from tesk.taskmaster.run import run_attempt
from tesk.taskmaster.steps import Interrupted
from tesk.tes.states import State

__all__ = ["main"]

log = logging.getLogger(__name__)

_WRITE_AGAIN = 5.0
_AGAIN = 1
_ENDED_BY_SIGNAL = 143
_ORDER = {State.QUEUED: 0, State.INITIALIZING: 1, State.RUNNING: 2}


def main(attempt: Path) -> int:
    """Run the attempt handed out in the directory `attempt` to its end; the exit code.

    0 when its last report is stored, 1 when its pod shall be started again. Raises ValueError when `attempt` holds
    none.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request
    # Process 1 of a container ignores signals that it has no handler for. What runs goes on without us.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_ENDED_BY_SIGNAL))
    return asyncio.run(_run(read_attempt(attempt)))


async def _run(handout: Handout) -> int:
    options = handout.options
    async with Cluster.of_site(options) as cluster:
        try:
            reports = _Reports(handout, cluster)
            earlier = await reports.open()
            if earlier is not None and earlier.state.terminal:
                return 0
            async with Scene(cluster, selector_of(options.instance, handout.owner.key)) as scene, reports:
                steps = JobSteps(handout, cluster, scene, reports.note, earlier, reports.show)
                since = (earlier.start_time if earlier else None) or _started()
                reports.last = await run_attempt(handout.plan, steps, reports.publish, start_time=since)
            await steps.free_scratch()
            return 0
        except (ClusterError, Interrupted) as error:
            log.error("%s", error)
            return _AGAIN
        finally:
            counts = ", ".join(f"{what} {count}" for what, count in sorted(cluster.sent.items()))
            log.info("processor time: %.2f s", time.process_time())
            log.info("requests to the API server: %d (%s)", sum(cluster.sent.values()), counts)


class _Reports:
    """Keeps the newest report in its ConfigMap; `async with` returns once the last one is there."""

    def __init__(self, handout: Handout, cluster: Cluster) -> None:
        self._handout = handout
        self._cluster = cluster
        self._report: Report | None = None
        self._earlier: Report | None = None
        self._notes: list[str] = []
        self._waiting: str | None = None
        self._uid: str | None = None
        self._first = True
        self._news = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self.last: Report | None = None
        """The last report of the attempt, once there is one."""

    async def open(self) -> Report | None:
        """The newest report of a predecessor."""
        there = await self._cluster.get(ConfigMap, report_name(self._handout.owner.key), within=AWAY_SECONDS)
        if there is not None and there.metadata is not None:
            self._uid, self._first = there.metadata.uid, False
            with contextlib.suppress(ValueError):
                self._earlier = read_report(there)
        return self._earlier

    async def __aenter__(self) -> _Reports:
        self._writing = asyncio.create_task(self._write_all(), name="reports")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._writing is not None
        self._writing.cancel()
        with contextlib.suppress(asyncio.CancelledError, ClusterError):
            await self._writing
        if kind is None and self.last is not None:
            await self._write(self.last)

    def publish(self, report: Report) -> None:
        """Note a new report; one that knows less than a predecessor's is kept back."""
        log.info("%s, executors ended: %d", report.state, len(report.executors))
        self._report = report
        if self._earlier is None or _knows(report) >= _knows(self._earlier):
            self._earlier = None
            self._news.set()

    def note(self, sentence: str) -> None:
        """Add a sentence to what the user is told."""
        log.info("%s", sentence)
        self._notes.append(sentence)
        self._news.set()

    def show(self, waiting: str | None) -> None:
        """Tell what the attempt waits for now; that it waits no longer may come with the next report."""
        self._waiting = waiting
        if waiting is not None:
            self._news.set()

    async def _write_all(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._report is None or self._earlier is not None:
                continue
            try:
                await self._write(self._report)
            except ClusterError as error:  # the work goes on, and the last report must come
                log.warning("the report is tried again: %s", error)
                self._news.set()
                await asyncio.sleep(_WRITE_AGAIN)

    async def _write(self, report: Report) -> None:
        waiting = None if report.state.terminal else self._waiting
        whole = dataclasses.replace(report, system_logs=(*self._notes, *report.system_logs), waiting=waiting)
        config_map = make_report_config_map(self._handout.owner, whole, self._handout.options)
        first, self._first = self._first, False
        if first:  # there was none when we came; a try that was cut short may have made it all the same
            made = await self._cluster.create(config_map, within=AWAY_SECONDS)
        else:
            made = await self._cluster.replace_or_create(config_map, uid=self._uid, within=AWAY_SECONDS)
        assert made.metadata is not None
        self._uid = made.metadata.uid


def _started() -> str:
    """When this process started, which is when its container did."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # since the machine's start
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return stamp(datetime.fromtimestamp(time.time() - age, UTC))


def _knows(report: Report) -> tuple[int, int]:
    return _ORDER.get(report.state, 3), len(report.executors)
