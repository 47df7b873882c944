"""The client for asynchronous programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import httpx

from tesk.client import operations
from tesk.client.connection import answer_of, fault_of, open_arguments, request_arguments, server_url, target_of
from tesk.client.errors import ClientError, NotSentError, ends_all, error_from
from tesk.client.operations import AT_ONCE, Answer, Changed, Done, Operation, Page, Pause, Request
from tesk.client.persistence import RETRY_SECONDS, persistent
from tesk.client.target import Target
from tesk.client.types import ServiceInfo, Task, View

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """`Client` with coroutines: the same arguments, results and errors."""

    def __init__(
        self,
        server: str | Target,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        retry: float = RETRY_SECONDS,
    ) -> None:
        target = target_of(server, timeout, headers)
        self.url = server_url(target.url)
        self._prefix: str | None = None
        self._keyed = False
        self._retry = retry
        self._http = httpx.AsyncClient(transport=transport, **open_arguments(self.url, target))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def service_info(self) -> ServiceInfo:
        """What the server says of itself."""
        return await self._run(operations.service_info())

    async def create(self, task: Mapping[str, Any], *, key: str | None = None) -> str:
        """Send one task; its id.

        Each call makes a task of its own; on a server that honours `Idempotency-Key`, calls with the same `key`
        (1 to 255 visible ASCII characters) within a day make one.
        """
        return await self._run(operations.create(task, key))

    async def create_all(
        self, tasks: Sequence[Mapping[str, Any]], *, at_once: int = AT_ONCE, done: Done | None = None
    ) -> list[str | ClientError]:
        """Send many tasks, `at_once` at a time; for each its id or why it has none, in the order given.

        `done` is told each as it comes, with its number. When the server cannot be reached or refuses our
        credentials, what was not sent yet is not sent (NotSentError). An interrupt sends no more either.
        """
        if not tasks:
            return []
        await self._base()
        results: list[str | ClientError] = [NotSentError("not sent")] * len(tasks)
        stopped: list[ClientError] = []
        numbers = iter(range(len(tasks)))

        async def send(number: int) -> str | ClientError:
            if stopped:
                return NotSentError(f"not sent, since another was not taken: {stopped[0]}")
            try:
                return await self.create(tasks[number])
            except ClientError as error:
                if ends_all(error):
                    stopped.append(error)
                return error

        async def work() -> None:
            for number in numbers:
                results[number] = await send(number)
                if done is not None:
                    done(number, results[number])

        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(tasks))):
                group.create_task(work())
        return results

    async def get(self, task_id: str, view: View = "FULL") -> Task:
        """One task, with as much as the view shows."""
        return await self._run(operations.get(task_id, view))

    async def why(self, task_id: str) -> str | None:
        """Why the task does not run yet, in one sentence; None when it does or has ended, or the server is no TESK."""
        return await self._run(operations.why(task_id))

    async def cancel(self, task_id: str) -> None:
        """Ask the server to end the task; it is CANCELED once nothing of it is left."""
        await self._run(operations.cancel(task_id))

    async def list(
        self,
        *,
        name_prefix: str | None = None,
        state: str | None = None,
        tags: Mapping[str, str] | None = None,
        view: View = "MINIMAL",
        page_size: int | None = None,
    ) -> AsyncIterator[Task]:
        """Every task that matches, page by page as they are consumed. An empty tag value matches any."""
        token: str | None = None
        while True:
            tasks, token = await self.page(
                name_prefix=name_prefix,
                state=state,
                tags=tags,
                view=view,
                page_size=page_size,
                page_token=token,
            )
            for task in tasks:
                yield task
            if token is None:
                return

    async def page(
        self,
        *,
        name_prefix: str | None = None,
        state: str | None = None,
        tags: Mapping[str, str] | None = None,
        view: View = "MINIMAL",
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Page:
        """One page of the list, and the token of the next one or None at the end."""
        return await self._run(
            operations.page(
                name_prefix=name_prefix,
                state=state,
                tags=tags,
                view=view,
                page_size=page_size,
                page_token=page_token,
            )
        )

    async def wait(
        self,
        ids: Iterable[str],
        *,
        timeout: float | None = None,
        poll: float = 2.0,
        patience: float = 60.0,
        changed: Changed | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Wait until every task has ended; the last state of each.

        One poller serves thousands of ids: few are asked for singly, many are read from pages of the list.
        `poll` is the longest pause in seconds, `patience` how long the server may be away. `changed` is told
        each change of state. Tasks that all bear `tags` are found faster when these are named. Raises
        WaitTimeoutError after `timeout` seconds.
        """
        # a server that is away for a while is this operation's own business
        return await self._drive(
            operations.wait(
                ids,
                timeout=timeout,
                poll=poll,
                patience=patience,
                changed=changed,
                reached=self._prefix is not None,
                tags=tags,
            )
        )

    async def logs(
        self,
        task_id: str,
        executor: int = 0,
        stream: Literal["stdout", "stderr"] = "stdout",
        *,
        follow: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """What executor number `executor` (from 0) has written so far; with `follow`, until it ends.

        An extension of TESK; the bytes come as the command wrote them, in pieces of any size.
        """
        request = operations.logs_request(task_id, executor, stream, follow=follow)
        async with self._stream(request) as response:
            try:
                async for piece in response.aiter_bytes():
                    yield piece
            except httpx.HTTPError as error:
                raise fault_of(self.url, error) from error

    @asynccontextmanager
    async def _stream(self, request: Request) -> AsyncIterator[httpx.Response]:
        built = self._http.build_request(**request_arguments(self.url, await self._base(), request))
        # a command may be silent for hours
        built.extensions["timeout"] = {**built.extensions["timeout"], "read": None}
        try:
            response = await self._http.send(built, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise fault_of(self.url, error) from error
        try:
            if response.status_code != 200:
                await response.aread()
                answer = answer_of(response)
                raise error_from(answer.status, answer.body, answer.url, answer.retry_after)
            yield response
        finally:
            await response.aclose()

    async def _base(self) -> str:
        if self._prefix is None:
            self._prefix = await self._run(operations.find_prefix(self.url.path.rstrip("/")))
        return self._prefix

    async def _run(self, operation: Operation[T]) -> T:
        return await self._drive(
            persistent(
                operation, seconds=self._retry, reached=lambda: self._prefix is not None, keyed=lambda: self._keyed
            )
        )

    async def _drive(self, operation: Operation[T]) -> T:
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = operation.send(None)
                    continue
                try:
                    answer = await self._ask(step)
                except ClientError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    async def _ask(self, request: Request) -> Answer:
        prefix = "" if request.absolute else await self._base()
        try:
            answer = answer_of(await self._http.request(**request_arguments(self.url, prefix, request)))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise fault_of(self.url, error) from error
        self._keyed = self._keyed or answer.keyed
        return answer
