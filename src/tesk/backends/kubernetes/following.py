"""What a container writes, as it comes, out of its pod's log: an executor's streams, and a taskmaster's reports."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from lightkube.resources.core_v1 import Pod

from tesk.backends.kubernetes.cluster import Cluster, Selector
from tesk.backends.kubernetes.errors import Gone, Refused, Unreachable
from tesk.backends.kubernetes.pace import Backoff
from tesk.backends.kubernetes.pod_facts import age, state_of
from tesk.backends.kubernetes.report_lines import ReportReader
from tesk.backends.kubernetes.streams import Unframer, read_end
from tesk.taskmaster.report import Report

__all__ = ["read_reports", "read_streams"]

_SOONEST, _LATEST = 0.2, 2.0
_LATE_READS, _SURE_READS = 4, 10
"""How often the log of a container that has ended is read again for what ends it, which may come late: where nobody
knows whether it does (2 s), and where it surely was written (15 s).
"""


class _Tail:
    """The log of one container, read again after each break; nothing is told twice."""

    def __init__(self, cluster: Cluster, container: str) -> None:
        self._cluster = cluster
        self._container = container
        self.known = 0

    async def read(self, pod: str | None, *, follow: bool) -> AsyncGenerator[bytes]:
        """What came since; nothing where the container has not started, or the pod is not there yet."""
        if pod is None:
            return
        at = 0
        with contextlib.suppress(Refused):
            async with contextlib.aclosing(self._cluster.log(pod, self._container, follow=follow)) as pieces:
                async for piece in pieces:
                    at += len(piece)
                    if at > self.known:
                        fresh, self.known = piece[-(at - self.known) :], at
                        yield fresh


async def read_streams(
    cluster: Cluster, labels: Selector, container: str, *, follow: bool, expected: Callable[[], bool]
) -> AsyncGenerator[tuple[bytes, bytes]]:
    """What the executor in `container` of the pod with `labels` wrote to stdout and to stderr; with `follow` until its
    end, while it is `expected` to start.

    A connection that breaks is made again, and what came before is not told twice. What the node has rotated away
    before it could be read is missing. Raises Unreachable without `follow`.
    """
    again = Backoff(_SOONEST, _LATEST)
    tail, late, reads = _Tail(cluster, container), 0, _LATE_READS
    stdout, stderr = Unframer("stdout"), Unframer("stderr")
    while True:
        awaited = expected()  # asked first: what has begun and ended meanwhile is there now
        try:
            pod = max(await cluster.list(Pod, labels), key=age, default=None)
            name = pod.metadata.name if pod is not None and pod.metadata is not None else None
            if name is None and (tail.known or not awaited):
                return
            async with contextlib.aclosing(tail.read(name, follow=follow)) as pieces:
                async for fresh in pieces:
                    again.renew()
                    data = stdout.feed(fresh), stderr.feed(fresh)
                    if any(data):
                        yield data
            state = state_of(pod, container)
            end = state.terminated if state is not None else None
            late += end is not None
            reads = _SURE_READS if end is not None and read_end(end.message or "") is not None else _LATE_READS
        except Gone:
            return
        except Unreachable:
            if not follow:
                raise
        if not follow or stdout.over or late > reads:
            return
        await asyncio.sleep(again.next())


async def read_reports(cluster: Cluster, pod: str, over: Callable[[], bool]) -> AsyncGenerator[tuple[Report, int]]:
    """The reports that the taskmaster of the pod tells, up to its last one, or as far as there are any.

    Each with its number, from 1: where several came at once, the newest alone.
    `over` says whether its container has ended: then what is not there soon never comes.
    """
    again = Backoff(_SOONEST, _LATEST)
    tail, reader, late = _Tail(cluster, "taskmaster"), ReportReader(), 0
    while late <= _SURE_READS:
        was_over = over()
        try:
            async with contextlib.aclosing(tail.read(pod, follow=True)) as pieces:
                async for fresh in pieces:
                    again.renew()
                    if reader.feed(fresh) and reader.newest is not None:
                        yield reader.newest, reader.lines
                        if reader.newest.state.terminal:
                            return
            late += was_over
        except Gone:
            return
        except Unreachable:
            pass
        await asyncio.sleep(again.next())
