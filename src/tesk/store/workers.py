"""The threads that talk to the database: one that writes, in groups, and a few that read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tesk.store.database import Connection, Cursor, Database
from tesk.store.errors import StoreError

__all__ = ["Reader", "Work", "Workers", "Writer"]

T = TypeVar("T")

_GROUP = 256
"""The most writes in one transaction, so that none waits long for the others."""

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
                while len(group) < _GROUP and not last:
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

    Each piece of work has a savepoint, so a failing one fails alone. Nobody hears of success before COMMIT has
    returned.
    """

    writing = True

    def _serve(self, group: list[Work]) -> None:
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001 - every caller of the group gets it
            if self._database.retryable(error):
                for work in group:
                    self._commit_alone(work)
            else:
                _fail(group, error)
        self._settle(group)

    def _commit_alone(self, work: Work) -> None:
        """Other servers hold, in another order, the rows that the group needs: one at a time cannot deadlock."""
        for tries_left in reversed(range(_TRIES)):
            try:
                self._commit([work])
                return
            except Exception as error:  # noqa: BLE001 - the caller gets it
                work.error = error
                if not (tries_left and self._database.retryable(error)):
                    return

    def _commit(self, group: list[Work]) -> None:
        cursor = self._begin()
        try:
            for work in group:
                cursor.execute("SAVEPOINT work")
                work.attempt(cursor)
                if work.error is not None:
                    if self._database.retryable(work.error):
                        raise work.error
                    cursor.execute("ROLLBACK TO SAVEPOINT work")
                cursor.execute("RELEASE SAVEPOINT work")
            cursor.execute("COMMIT")
        except BaseException:
            self._roll_back(cursor)
            raise
        finally:
            cursor.close()

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


def _fail(group: list[Work], error: Exception) -> None:
    """A transaction that did not commit took all of its work with it."""
    for work in group:
        work.error = work.error or error


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
        for worker in (self._writer, *self._readers):
            worker.start()

    def read(self, run: Callable[[Cursor], T]) -> asyncio.Future[T]:
        """Run `run` on a reader's cursor; it may execute one statement."""
        return self._put(self._reads, run, None)

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
        await asyncio.gather(self._writer.ended, *(reader.ended for reader in self._readers))
