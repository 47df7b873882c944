"""What is there of one kind, kept up to date: a list, then the changes, and again whenever that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Generic, Literal, TypeVar

import msgspec
from lightkube.models.meta_v1 import Status

from tesk.backends.kubernetes.api import Call, Kind, decode, kind_of, path_of
from tesk.backends.kubernetes.cluster import Cluster, Selector, selecting
from tesk.backends.kubernetes.errors import ClusterError, Expired, Unreachable
from tesk.backends.kubernetes.pace import Backoff, Deadline

__all__ = ["Change", "Tell", "Watch"]

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Kind)
T = TypeVar("T")

Change = Literal["added", "modified", "deleted"]
Tell = Callable[[Change, T], None]
"""Called on the event loop after `objects` has changed; must not block. What it raises is logged, and no more."""

_LONG_ENOUGH = 1.0
_LIST_SECONDS = 60.0
_SETTLE_SECONDS = 0.5
_LONGEST_EVENT = 32 << 20


class _Version(msgspec.Struct):
    resourceVersion: str  # noqa: N815


class _Bookmark(msgspec.Struct):
    metadata: _Version


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Watch(Generic[K, T]):
    """`objects` holds `keep(object)` of every object of `kind` with `labels` and `fields`, by name.

    `tell` hears of each change, found by the watch or by comparing two lists: what changed while nobody could look is
    told as well, though not how often. A change that leaves `keep(object)` equal is not told. An object that was
    deleted and made anew under its name is told as deleted, then added.

    While `synced` is False the server cannot be asked, and `objects` is what was known before; `problem` says why, and
    `since` for how long (a time of `clock`). Also while synced `objects` may lag some milliseconds behind: before
    anything is done because an object is absent, ask `Cluster.get`. May be used as `async with`, which waits for the
    first list.

    The server ends each watch after about `renew_seconds`, and we go on where it stopped; a watch that has given no
    byte for `grace_seconds` longer is taken for dead.

    Without `list_first` a watch alone tells what there is, for one request in place of two; what goes while nobody can
    look is then not told. It is for what does not go, such as events.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: type[K],
        labels: Selector,
        *,
        fields: Selector | None = None,
        keep: Callable[[K], T],
        tell: Tell[T] | None = None,
        renew_seconds: float = 120.0,
        grace_seconds: float = 10.0,
        backoff: Backoff | None = None,
        list_first: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.objects: dict[str, T] = {}
        self.synced = False
        self.since = clock()
        self.problem: str | None = "nothing was listed yet"
        self.lists = 0
        self._cluster = cluster
        self._kind = kind
        self._labels = labels
        self._fields = fields
        self._keep = keep
        self._tell = tell
        self._renew = renew_seconds
        self._grace = grace_seconds
        self._backoff = backoff or Backoff(0.1, 5.0)
        self._clock = clock
        self._list_first = list_first
        self._version: str | None = None
        self._seen: dict[str, tuple[str, str]] = {}
        self._error: ClusterError | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watch[K, T]:
        await self.start()
        try:
            await self.wait_synced(_LIST_SECONDS)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to look, in a task of its own, until `stop`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"watch {kind_of(self._kind)}s")

    async def stop(self) -> None:
        """Look no more; `objects` stays as it is and counts as old."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._turn(False)
            self.problem = "nobody is looking any more"

    async def wait_synced(self, within: float) -> None:
        """Return once `synced`. Raises the latest fault, or Unreachable, after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while not self.synced:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            kind = kind_of(self._kind)
            raise self._error or Unreachable(f"{kind}s could not be listed within {within:.0f} s") from None

    async def _run(self) -> None:
        while True:
            began = self._clock()
            asked: float | None = None
            try:
                if self._version is None and self._list_first:
                    await self._list()
                await self._follow(self._version)
                failed = False
            except Expired as error:
                self._version = None
                failed = self._clock() - began < _LONG_ENOUGH
                self._lost("the server has forgotten what was seen last; listing again", error)
            except ClusterError as error:
                failed = True
                asked = self._step_back(error)
            except Exception as error:  # a watcher that ends in silence is worse than one that tries again
                log.exception("watching %ss failed", kind_of(self._kind))
                self._version = None
                failed = True
                self._lost(f"an error of tesk itself: {type(error).__name__}: {error}", None)
            if self._clock() - began >= _LONG_ENOUGH:
                self._backoff.renew()
                if not failed:
                    continue
            await asyncio.sleep(self._backoff.next(asked))

    def _step_back(self, error: ClusterError) -> float | None:
        """Note the fault; list again unless only the connection broke. Returns how long the server asked to be left."""
        after = error.retry_after if isinstance(error, Unreachable) else None
        if not isinstance(error, Unreachable) or error.code not in (None, 429):
            self._version = None
        self._lost(str(error), error)
        return after

    async def _list(self) -> None:
        version, seen = "", set()
        deadline = Deadline(_LIST_SECONDS, again=False)
        async for version, page in self._cluster.pages(self._kind, self._labels, self._fields, deadline=deadline):  # noqa: B007
            for obj in page:
                seen.add(self._put(obj))
        for name in [name for name in self.objects if name not in seen]:
            self._drop(name)
        self._version = version
        self.lists += 1
        self._found()

    async def _follow(self, version: str | None) -> None:
        """Take the changes since `version`, until the server ends the watch in order; without, what there is and the
        changes since.
        """
        seconds = self._renew * (0.8 + 0.4 * random.random())
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            **({"resourceVersion": version} if version else {}),
            "timeoutSeconds": str(max(1, round(seconds))),
            **selecting(self._labels, self._fields),
        }
        path = path_of(self._kind, self._cluster.namespace)
        call = Call(f"watch {kind_of(self._kind)}s", "GET", path, params)
        async with self._cluster.api.stream(call, silence=seconds + self._grace) as blocks:
            # A server accepts a version that it has forgotten, and says so in the first line.
            settled = asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._found)
            try:
                async for line in _lines(blocks):
                    self._take(line)
                    self._found()
            finally:
                settled.cancel()

    def _take(self, line: bytes) -> None:
        event = decode(line, _Event)
        if event.type == "BOOKMARK":
            self._version = decode(event.object, _Bookmark).metadata.resourceVersion
            return
        if event.type == "ERROR":
            raise self._fault(decode(event.object, Status))
        obj = decode(event.object, self._kind)
        if event.type == "DELETED":
            assert obj.metadata is not None
            self._drop(obj.metadata.name or "", obj)
        else:
            self._put(obj)
        assert obj.metadata is not None
        self._version = obj.metadata.resourceVersion

    def _fault(self, status: Status) -> ClusterError:
        sentence = f"cannot watch {kind_of(self._kind)}s: {status.message}"
        return Expired(sentence) if status.code == 410 else Unreachable(sentence, status.code or 500)

    def _put(self, obj: K) -> str:
        meta = obj.metadata
        assert meta is not None
        name, uid, version = meta.name or "", meta.uid or "", meta.resourceVersion or ""
        before = self._seen.get(name)
        if before is not None and before[0] != uid:
            self._drop(name)
            before = None
        if before is None or before[1] != version:
            kept = self._keep(obj)
            same = before is not None and self.objects[name] == kept
            self._seen[name] = (uid, version)
            self.objects[name] = kept
            if not same:
                self._say("added" if before is None else "modified", kept)
        return name

    def _drop(self, name: str, last: K | None = None) -> None:
        if name in self._seen:
            del self._seen[name]
            known = self.objects.pop(name)
            self._say("deleted", known if last is None else self._keep(last))

    def _say(self, change: Change, kept: T) -> None:
        if self._tell is None:
            return
        try:
            self._tell(change, kept)
        except Exception:
            log.exception("telling of a %s %s failed", change, kind_of(self._kind))

    def _found(self) -> None:
        if not self.synced:
            self._turn(True)
            self.problem = self._error = None
            log.info("watching %ss in namespace %s", kind_of(self._kind), self._cluster.namespace)
        self._news.set()

    def _lost(self, problem: str, error: ClusterError | None) -> None:
        if self.synced:
            self._turn(False)
            log.warning("no view of the %ss in the cluster: %s", kind_of(self._kind), problem)
        self.problem, self._error = problem, error
        self._news.set()

    def _turn(self, synced: bool) -> None:
        self.synced = synced
        self.since = self._clock()


async def _lines(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines that end with a line feed and nothing else; a line that the end of the stream cuts is not one."""
    rest = b""
    async for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            if line:
                yield line
        if len(rest) > _LONGEST_EVENT:
            raise Unreachable("cannot watch: the API server sent an event without end")
