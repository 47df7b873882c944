"""The client for ordinary programs."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
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

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """A connection to one TES server.

    `server` is its address, with or without the API's prefix, or what `find_target` found; which of
    `/ga4gh/tes/v1`, `/v1` and `/` the prefix is, is found out once, at the first call. A name and password in the
    address are sent as basic authentication. `timeout` is in seconds and counts for each request; what can safely be
    repeated is, for up to `retry` seconds (see tesk.client.persistence). Every call raises ServerUnreachableError
    when nothing answers and ClientError, with the server's own sentences, when the answer is a refusal.
    """

    def __init__(
        self,
        server: str | Target,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        retry: float = RETRY_SECONDS,
    ) -> None:
        target = target_of(server, timeout, headers)
        self.url = server_url(target.url)
        self._prefix: str | None = None
        self._keyed = False
        self._retry = retry
        self._http = httpx.Client(transport=transport, **open_arguments(self.url, target))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def service_info(self) -> ServiceInfo:
        """What the server says of itself."""
        return self._run(operations.service_info())

    def create(self, task: Mapping[str, Any], *, key: str | None = None) -> str:
        """Send one task; its id.

        Each call makes a task of its own; on a server that honours `Idempotency-Key`, calls with the same `key`
        (1 to 255 visible ASCII characters) within a day make one.
        """
        return self._run(operations.create(task, key))

    def create_all(
        self, tasks: Sequence[Mapping[str, Any]], *, at_once: int = AT_ONCE, done: Done | None = None
    ) -> list[str | ClientError]:
        """Send many tasks, `at_once` at a time; for each its id or why it has none, in the order given.

        `done` is told each as it comes, with its number. When the server cannot be reached or refuses our
        credentials, what was not sent yet is not sent (NotSentError). An interrupt sends no more either.
        """
        if not tasks:
            return []
        self._base()
        results: list[str | ClientError] = [NotSentError("not sent")] * len(tasks)
        stopped: list[ClientError] = []

        def send(number: int) -> str | ClientError:
            if stopped:
                return NotSentError(f"not sent, since another was not taken: {stopped[0]}")
            try:
                return self.create(tasks[number])
            except ClientError as error:
                if ends_all(error):
                    stopped.append(error)
                return error

        pool = ThreadPoolExecutor(at_once, "tesk-create")
        try:
            numbers = {pool.submit(send, number): number for number in range(len(tasks))}
            for each in as_completed(numbers):
                number = numbers[each]
                results[number] = each.result()
                if done is not None:
                    done(number, results[number])
        finally:
            pool.shutdown(cancel_futures=True)
        return results

    def get(self, task_id: str, view: View = "FULL") -> Task:
        """One task, with as much as the view shows."""
        return self._run(operations.get(task_id, view))

    def why(self, task_id: str) -> str | None:
        """Why the task does not run yet, in one sentence; None when it does or has ended, or the server is no TESK."""
        return self._run(operations.why(task_id))

    def cancel(self, task_id: str) -> None:
        """Ask the server to end the task; it is CANCELED once nothing of it is left."""
        self._run(operations.cancel(task_id))

    def list(
        self,
        *,
        name_prefix: str | None = None,
        state: str | None = None,
        tags: Mapping[str, str] | None = None,
        view: View = "MINIMAL",
        page_size: int | None = None,
    ) -> Iterator[Task]:
        """Every task that matches, page by page as they are consumed. An empty tag value matches any."""
        token: str | None = None
        while True:
            tasks, token = self.page(
                name_prefix=name_prefix,
                state=state,
                tags=tags,
                view=view,
                page_size=page_size,
                page_token=token,
            )
            yield from tasks
            if token is None:
                return

    def page(
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
        return self._run(
            operations.page(
                name_prefix=name_prefix,
                state=state,
                tags=tags,
                view=view,
                page_size=page_size,
                page_token=page_token,
            )
        )

    def wait(
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
        return self._drive(
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

    def logs(
        self,
        task_id: str,
        executor: int = 0,
        stream: Literal["stdout", "stderr"] = "stdout",
        *,
        follow: bool = False,
    ) -> Generator[bytes, None, None]:
        """What executor number `executor` (from 0) has written so far; with `follow`, until it ends.

        An extension of TESK; the bytes come as the command wrote them, in pieces of any size.
        """
        request = operations.logs_request(task_id, executor, stream, follow=follow)
        with self._stream(request) as response:
            try:
                yield from response.iter_bytes()
            except httpx.HTTPError as error:
                raise fault_of(self.url, error) from error

    @contextmanager
    def _stream(self, request: Request) -> Iterator[httpx.Response]:
        built = self._http.build_request(**request_arguments(self.url, self._base(), request))
        # a command may be silent for hours
        built.extensions["timeout"] = {**built.extensions["timeout"], "read": None}
        try:
            response = self._http.send(built, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise fault_of(self.url, error) from error
        try:
            if response.status_code != 200:
                response.read()
                answer = answer_of(response)
                raise error_from(answer.status, answer.body, answer.url, answer.retry_after)
            yield response
        finally:
            response.close()

    def _base(self) -> str:
        if self._prefix is None:
            self._prefix = self._run(operations.find_prefix(self.url.path.rstrip("/")))
        return self._prefix

    def _run(self, operation: Operation[T]) -> T:
        return self._drive(
            persistent(
                operation, seconds=self._retry, reached=lambda: self._prefix is not None, keyed=lambda: self._keyed
            )
        )

    def _drive(self, operation: Operation[T]) -> T:
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = operation.send(None)
                    continue
                try:
                    answer = self._ask(step)
                except ClientError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(answer)
        except StopIteration as end:
            return cast(T, end.value)

    def _ask(self, request: Request) -> Answer:
        prefix = "" if request.absolute else self._base()
        try:
            answer = answer_of(self._http.request(**request_arguments(self.url, prefix, request)))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise fault_of(self.url, error) from error
        self._keyed = self._keyed or answer.keyed
        return answer
