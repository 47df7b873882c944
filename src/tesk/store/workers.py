"""The threads that talk to the database: one that writes, in groups, and a few that read."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tesk.store.database import Connection, Cursor, Database
from tesk.store.errors import StoreError

__all__ = ["Reader", "Work", "Workers", "Writer"]

T = TypeVar("T")

_TRIES = 5
"""How often a transaction is tried that other servers' transactions got in the way of."""


@dataclass(slots=True)
class Work:
    """One piece of work for a thread, and who waits for it."""

    run: Callable[[Cursor], Any]
    future: asyncio.Future[Any]
    committed: Callable[[Any], None] | None = None
    result: Any = None
    error: Exception | None = None
    kept: bool = False

    def attempt(self, cursor: Cursor) -> None:
        """Run, and keep the result or the error."""
        self.error = None
        try:
            self.result = self.run(cursor)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self.error = error


class _Worker(threading.Thread):
    """A thread with a connection of its own, fed by a queue; None in the queue ends it."""

    writing = False
    most = 1
    """How many pieces of work are done, and told of, together."""

    def __init__(
        self, database: Database, queue: SimpleQueue[Work | None], loop: asyncio.AbstractEventLoop, name: str
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._database = database
        self._queue = queue
        self._loop = loop
        self._connection: Connection | None = None
        self.ended: asyncio.Future[None] = loop.create_future()

    def run(self) -> None:
        try:
            while (first := self._queue.get()) is not None:
                group = [first]
                last = False
                while len(group) < self.most and not last:
                    try:
                        more = self._queue.get_nowait()
                    except Empty:
                        break
                    if more is None:
                        last = True
                    else:
                        group.append(more)
                self._serve(group)
                if last:
                    break
        finally:
            self._disconnect()
            self._tell(self._end)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _serve(self, group: list[Work]) -> None:
        raise NotImplementedError

    def _cursor(self) -> Cursor:
        if self._lost:
            self._disconnect()
        if self._connection is None:
            self._connection = self._database.connect(writing=self.writing)
        cursor: Cursor = self._connection.cursor()
        return cursor

    @property
    def _lost(self) -> bool:
        return self._connection is not None and self._database.lost(self._connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _explained(self, error: Exception) -> Exception:
        return self._database.explain(error) if isinstance(error, self._database.errors) else error

    def _settle(self, group: list[Work]) -> None:
        for work in group:
            if work.error is not None:
                work.error = self._explained(work.error)
        self._tell(lambda: _resolve(group, self._loop))

    def _tell(self, what: Callable[[], Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: nobody waits any more
            if not self._loop.is_closed():
                raise


def _resolve(group: list[Work], loop: asyncio.AbstractEventLoop) -> None:
    """On the event loop: hand out what a thread has found."""
    for work in group:
        if work.error is None and work.committed is not None:
            loop.call_soon(work.committed, work.result)
        if work.future.done():
            continue
        if work.error is None:
            work.future.set_result(work.result)
        else:
            work.future.set_exception(work.error)


class Reader(_Worker):
    """Runs each read as one statement, which is one consistent look at the database."""

    most = 4  # one thread must not take what another is free for, behind a long list

    def _serve(self, group: list[Work]) -> None:
        for work in group:
            self._read(work)
        self._settle(group)

    def _read(self, work: Work) -> None:
        self._read_once(work)
        if self._lost:
            # The database was restarted since the last read: that one statement may be asked again.
            self._read_once(work)

    def _read_once(self, work: Work) -> None:
        try:
            cursor = self._cursor()
        except StoreError as error:
            work.error = error
            return
        try:
            work.attempt(cursor)
        finally:
            cursor.close()


class Writer(_Worker):
    """Group commit: what came while the last transaction was made durable goes into the next one together.

    Where one of a group fails, nothing of the group is kept and each is run again in a transaction of its own, so that
    it fails alone. That is rare, and a savepoint for each would cost every write two more round trips. Nobody hears of
    success before COMMIT has returned.
    """

    writing = True
    most = 256  # none waits long for the others

    def _serve(self, group: list[Work]) -> None:
        try:
            if len(group) == 1 or not self._commit(group):
                for work in group:
                    self._commit_alone(work)
        except Exception as error:  # noqa: BLE001 - everybody who waits gets it
            for work in group:
                if not work.kept:
                    work.error = work.error or error
        self._settle(group)

    def _commit_alone(self, work: Work) -> None:
        """Run `work`, again when another server's transaction gets in its way, within bounds.

        Two servers' groups may deadlock over rows that they take in another order; one at a time they cannot.
        """
        for _ in range(_TRIES):
            if self._commit([work]) or work.error is None or not self._database.retryable(work.error):
                return

    def _commit(self, group: list[Work]) -> bool:
        """Run `group` in one transaction; whether it was kept. False when a piece of work has failed.

        Raises what BEGIN or COMMIT raised: then none of it may be run again.
        """
        cursor = self._begin()
        try:
            for work in group:
                work.attempt(cursor)
                if work.error is not None:
                    self._roll_back(cursor)
                    return False
            cursor.execute("COMMIT")
        except BaseException:
            self._roll_back(cursor)
            raise
        finally:
            with contextlib.suppress(*self._database.errors):  # its connection may be closed by now
                cursor.close()
        for work in group:
            work.kept = True
        return True

    def _begin(self) -> Cursor:
        cursor = self._cursor()
        try:
            cursor.execute(self._database.begin)
        except self._database.errors:
            cursor.close()
            if not self._lost:
                raise
            # The database was restarted since the last write: nothing of this group has been sent yet.
            cursor = self._cursor()
            cursor.execute(self._database.begin)
        return cursor

    def _roll_back(self, cursor: Cursor) -> None:
        try:
            cursor.execute("ROLLBACK")
        except self._database.errors:
            # Either the database has rolled back by itself or the connection is of no use: a new one knows nothing.
            self._disconnect()


class _Near:
    """A connection for the event loop itself, which never waits for a lock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self.errors: tuple[type[Exception], ...] = (StoreError, *database.errors)

    def read(self, run: Callable[[Cursor], T]) -> T:
        """Raises what the driver raises, and StoreError."""
        if self._connection is None:
            self._connection = self._database.connect(writing=False, waiting=False)
        cursor: Cursor = self._connection.cursor()
        try:
            return run(cursor)
        finally:
            cursor.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Workers:
    """The writer and the readers of one store."""

    def __init__(self, database: Database, readers: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._reads: SimpleQueue[Work | None] = SimpleQueue()
        self._writes: SimpleQueue[Work | None] = SimpleQueue()
        self._writer = Writer(database, self._writes, self._loop, "tesk-store-writer")
        self._readers = [
            Reader(database, self._reads, self._loop, f"tesk-store-reader-{number}") for number in range(readers)
        ]
        self._closed = False
        self._near = _Near(database) if database.near else None
        for worker in (self._writer, *self._readers):
            worker.start()

    def read(self, run: Callable[[Cursor], T]) -> asyncio.Future[T]:
        """Run `run` on a reader's cursor; it may execute one statement."""
        return self._put(self._reads, run, None)

    def look_up(self, run: Callable[[Cursor], T]) -> asyncio.Future[T]:
        """Run `run`, one statement that finds a task by its id: at once where the database is a file.

        That takes some 20 µs, and to hand it to a thread and wait for the thread takes five times as long.
        """
        if self._near is None or self._closed:
            return self.read(run)
        try:
            result = self._near.read(run)
        except self._near.errors:
            return self.read(run)  # what stands in the way is waited for, or told of, by a reader
        future: asyncio.Future[T] = self._loop.create_future()
        future.set_result(result)
        return future

    def write(self, run: Callable[[Cursor], T], committed: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Run `run` in a transaction; once it is durable the future resolves and `committed` is called on the loop."""
        return self._put(self._writes, run, committed)

    def _put(
        self, queue: SimpleQueue[Work | None], run: Callable[[Cursor], T], committed: Callable[[T], None] | None
    ) -> asyncio.Future[T]:
        if self._closed:
            raise StoreError("The store is closed: the server is shutting down.")
        future: asyncio.Future[T] = self._loop.create_future()
        queue.put(Work(run, future, committed))
        return future

    async def close(self) -> None:
        """Finish what was asked for, then end the threads."""
        if not self._closed:
            self._closed = True
            self._writes.put(None)
            for _ in self._readers:
                self._reads.put(None)
            if self._near is not None:
                self._near.close()
        await asyncio.gather(self._writer.ended, *(reader.ended for reader in self._readers))
