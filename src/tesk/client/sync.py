"""The client for ordinary programs."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import httpx

from tesk.client import operations
from tesk.client.connection import answer_of, fault_of, open_arguments, request_arguments, server_url
from tesk.client.errors import ClientError, error_from
from tesk.client.operations import Answer, Changed, Operation, Page, Pause, Request
from tesk.client.types import ServiceInfo, Task, View

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """A connection to one TES server.

    `url` is its address with or without the API's prefix; which of `/ga4gh/tes/v1`, `/v1` and `/` it is, is
    found out once, at the first call. A name and password in it are sent as basic authentication. `timeout`
    is in seconds and counts for each request. Every call raises ServerUnreachableError when nothing answers
    and ClientError, with the server's own sentences, when the answer is a refusal.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = server_url(url)
        self._prefix: str | None = None
        self._http = httpx.Client(transport=transport, **open_arguments(self.url, timeout, headers))

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

    def create(self, task: Mapping[str, Any]) -> str:
        """Send one task; its id."""
        return self._run(operations.create(task))

    def get(self, task_id: str, view: View = "FULL") -> Task:
        """One task, with as much as the view shows."""
        return self._run(operations.get(task_id, view))

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
    ) -> dict[str, str]:
        """Wait until every task has ended; the last state of each.

        One poller serves thousands of ids: few are asked for singly, many are read from pages of the list.
        `poll` is the longest pause in seconds, `patience` how long the server may be away. `changed` is told
        each change of state. Raises WaitTimeoutError after `timeout` seconds.
        """
        return self._run(
            operations.wait(
                ids, timeout=timeout, poll=poll, patience=patience, changed=changed, reached=self._prefix is not None
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
                raise error_from(answer.status, answer.body, answer.url)
            yield response
        finally:
            response.close()

    def _base(self) -> str:
        if self._prefix is None:
            self._prefix = self._run(operations.find_prefix(self.url.path.rstrip("/")))
        return self._prefix

    def _run(self, operation: Operation[T]) -> T:
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
            return answer_of(self._http.request(**request_arguments(self.url, prefix, request)))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise fault_of(self.url, error) from error
