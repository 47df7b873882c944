"""One stream of an executor as it comes, out of its pod's log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from lightkube.resources.core_v1 import Pod

from tesk.backends.kubernetes.cluster import Cluster, Selector
from tesk.backends.kubernetes.errors import Gone, Refused, Unreachable
from tesk.backends.kubernetes.pace import Backoff
from tesk.backends.kubernetes.pod_facts import age, status_of
from tesk.backends.kubernetes.streams import StreamName, Unframer

__all__ = ["read_stream"]

_CONTAINER = "executor"
_SOONEST, _LATEST = 0.2, 2.0
_LATE_READS = 4
"""How often the log of a container that has ended is read again for the record that ends it, which may come late."""


async def read_stream(
    cluster: Cluster, labels: Selector, stream: StreamName, *, follow: bool, expected: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What the executor whose pod has `labels` wrote; with `follow` until its end, while it is `expected` to start.

    A connection that breaks is made again, and what came before is not told twice. What the node has rotated away
    before it could be read is missing. Raises Unreachable without `follow`.
    """
    again = Backoff(_SOONEST, _LATEST)
    unframer, known, late = Unframer(stream), 0, 0
    while True:
        awaited = expected()  # asked first: what has begun and ended meanwhile is there now
        try:
            pod = max(await cluster.list(Pod, labels), key=age, default=None)
            name = pod.metadata.name if pod is not None and pod.metadata is not None else None
            if name is None and (known or not awaited):
                return
            at = 0
            async with contextlib.aclosing(_log(cluster, name, follow=follow)) as pieces:
                async for piece in pieces:
                    at += len(piece)
                    if at > known:
                        fresh, known = piece[-(at - known) :], at
                        again.renew()
                        if data := unframer.feed(fresh):
                            yield data
            late += _has_ended(pod)
        except Gone:
            return
        except Unreachable:
            if not follow:
                raise
        if not follow or unframer.over or late > _LATE_READS:
            return
        await asyncio.sleep(again.next())


async def _log(cluster: Cluster, pod: str | None, *, follow: bool) -> AsyncGenerator[bytes]:
    """The log of the pod; nothing where it has not started, or is not there yet."""
    if pod is not None:
        with contextlib.suppress(Refused):
            async with contextlib.aclosing(cluster.log(pod, _CONTAINER, follow=follow)) as pieces:
                async for piece in pieces:
                    yield piece


def _has_ended(pod: Pod | None) -> bool:
    status = status_of(pod, _CONTAINER) if pod is not None else None
    return status is not None and status.state is not None and status.state.terminated is not None
