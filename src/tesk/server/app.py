"""The HTTP application: which path does what."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tesk.backends.base import LogStream
from tesk.config import Config
from tesk.server.answers import Json
from tesk.server.bodies import read_body
from tesk.server.clients import for_client
from tesk.server.entry import Entry
from tesk.server.origins import for_hosts, for_origins
from tesk.server.problems import Problem, on_http_exception, on_problem, on_store_error
from tesk.server.queries import idempotency_key, list_query, logs_query, view_of
from tesk.server.service_info import ServiceInfo
from tesk.server.stream import StreamedLog
from tesk.server.tasks import Tasks
from tesk.server.tokens import PageTokens
from tesk.store import StoreError, encode_json

__all__ = ["LiveController", "create_app"]

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_READY_SECONDS = 5.0
_KEYED = ((b"idempotency-key", b"honoured"),)
"""Shows clients that a create with `Idempotency-Key` may be repeated here; service-info's own keys are fixed."""


class LiveController(Protocol):
    """What the application asks of the controller."""

    @property
    def healthy(self) -> bool:
        """Whether its loop runs and does what it has to."""

    async def why(self, task: str) -> str | None:
        """Why the task does not run now; None when it does, or has ended."""

    def logs(self, task: str, executor: int, stream: LogStream, *, follow: bool) -> AsyncIterator[bytes]:
        """What an executor has written; nothing when there is no such executor."""


def create_app(
    tasks: Tasks,
    controller: LiveController | None,
    config: Config,
    *,
    secret: bytes,
    stopping: asyncio.Event | None = None,
    info: ServiceInfo | None = None,
    hosts: frozenset[str] | None = None,
) -> Starlette:
    """The application over `tasks`.

    `controller` None answers 503 where one is needed. `secret` is the store's, for page tokens. Once
    `stopping` is set, streams end, `/readyz` says no, and every answer ends its connection. `info` is what the service
    says of itself; None takes it from `config` for good. `hosts` are the names that it answers to, None: any.
    """
    stopping = stopping or asyncio.Event()
    info = info or ServiceInfo(config.service, tasks.site)
    api = _Api(tasks, controller, config, PageTokens(secret), stopping, info)
    server = config.server
    app = Starlette(
        routes=[
            Route("/tasks/service-info", api.legacy_service_info, methods=["GET"]),
            Route("/tasks/{task_id}:cancel", api.cancel, methods=["POST", "DELETE"]),
            Route("/tasks/{task_id}", api.get, methods=["GET"]),
            Route("/tasks", api.tasks, methods=["GET", "POST"]),
            Route("/tasks/{task_id}/logs", api.logs, methods=["GET"]),
            Route("/tasks/{task_id}/why", api.why, methods=["GET"]),
            Route("/service-info", api.service_info, methods=["GET"]),
            Route("/healthz", api.healthz, methods=["GET"]),
            Route("/readyz", api.readyz, methods=["GET"]),
        ],
        middleware=[
            Middleware(
                Entry,
                access_log=server.access_log,
                stopping=stopping,
                wrap=lambda inner: for_hosts(for_origins(inner, server.cors_origins), hosts),
            )
        ],
        exception_handlers={Problem: on_problem, StoreError: on_store_error, HTTPException: on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


class _Api:
    """The endpoints."""

    def __init__(
        self,
        tasks: Tasks,
        controller: LiveController | None,
        config: Config,
        tokens: PageTokens,
        stopping: asyncio.Event,
        info: ServiceInfo,
    ) -> None:
        self._tasks = tasks
        self._controller = controller
        self._tokens = tokens
        self._stopping = stopping
        self._max_body = config.server.max_body_bytes
        self._info = info

    async def service_info(self, request: Request) -> Response:
        return Json(self._info.body, tagged=True, headers=_KEYED)

    async def legacy_service_info(self, request: Request) -> Response:
        return Json(self._info.legacy_body, tagged=True)

    async def tasks(self, request: Request) -> Response:
        return await (self._create(request) if request.method == "POST" else self._list(request))

    async def _create(self, request: Request) -> Response:
        body = await read_body(request, self._max_body)
        task_id = await self._tasks.create(body, idempotency_key(request.headers))
        # Exactly this key: any other breaks py-tes. Nothing after the commit can fail.
        return Json(b'{"id":"%s"}' % task_id.encode("ascii"))

    async def _list(self, request: Request) -> Response:
        page = await self._tasks.page(list_query(request.query_params, self._tokens))
        if page.next is None:
            return Json(b"".join((b'{"tasks":', page.tasks, b"}")), tagged=True)
        token = self._tokens.make(page.next).encode("ascii")
        return Json(b'{"tasks":%s,"next_page_token":"%s"}' % (page.tasks, token), tagged=True)

    async def get(self, request: Request) -> Response:
        task_id = request.path_params["task_id"]
        if task_id.endswith(":cancel"):
            raise HTTPException(405, headers={"Allow": "POST, DELETE"})
        view = view_of(request.query_params)
        body = await self._tasks.get(_checked(task_id), view)
        if body is None:
            raise _no_task(task_id)
        return Json(for_client(request.headers.get("user-agent", ""), body), tagged=True)

    async def cancel(self, request: Request) -> Response:
        """The body is not read: clients send nothing, `{}` or `null` (clients.md section 0, cancel)."""
        task_id = request.path_params["task_id"]
        if await self._tasks.cancel(_checked(task_id)) is None:
            raise _no_task(task_id)
        return Json(b"{}")

    async def logs(self, request: Request) -> Response:
        task_id = request.path_params["task_id"]
        query = logs_query(request.query_params)
        if self._stopping.is_set():
            raise Problem(503, "The server is stopping; ask again in a moment.", headers={"Retry-After": "2"})
        if self._controller is None:
            raise Problem(503, "This server runs no tasks and has no logs; ask the one that does.")
        executors = await self._tasks.executors(_checked(task_id))
        if executors is None:
            raise _no_task(task_id)
        if query.executor >= executors:
            raise Problem(404, f"Task {task_id} has {executors} executor(s); they count from 0.")
        chunks = self._controller.logs(task_id, query.executor, query.stream, follow=query.follow)
        return StreamedLog(chunks, self._stopping if query.follow else None)

    async def why(self, request: Request) -> Response:
        task_id = request.path_params["task_id"]
        state = await self._tasks.store.state(_checked(task_id))
        if state is None:
            raise _no_task(task_id)
        if self._controller is None:
            raise Problem(
                503, "This server runs no tasks and knows nothing of what they wait for; ask the one that does."
            )
        return Json(encode_json({"id": task_id, "why": await self._controller.why(task_id)}))

    async def healthz(self, request: Request) -> Response:
        return Json(b'{"status":"alive"}')

    async def readyz(self, request: Request) -> Response:
        if self._stopping.is_set():
            raise Problem(503, "The server is stopping.")
        if self._controller is None or not self._controller.healthy:
            raise Problem(503, "The controller does not work, so no task would start; the server's log says why.")
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._tasks.store.state("none")
        except (TimeoutError, StoreError):
            raise Problem(503, f"The store has not answered within {_READY_SECONDS:g} s.") from None
        return Json(b'{"status":"ready"}')


def _checked(task_id: str) -> str:
    """`task_id` when the store can be asked for it; what cannot be an id is no task."""
    if not _TASK_ID.fullmatch(task_id):
        raise _no_task(task_id)
    return task_id


def _no_task(task_id: str) -> Problem:
    return Problem(404, f"There is no task {task_id[:128]!r}.")
