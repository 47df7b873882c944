"""An ASGI application on its sockets: uvicorn without its command line, its logging and its way of ending.

The end cuts nobody. Answers already say `Connection: close` (entry.py); connections that wait between two requests get
a moment to hear that; only then does listening end, with what the kernel has accepted by then still answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tesk.server.joined import JoinedHttp
from tesk.server.listen import BACKLOG, Listeners

__all__ = ["serve_app"]

_KEEP_ALIVE_SECONDS = 75
"""Longer than clients pause between polls (Nextflow: 5 s): no request meets a connection that closes."""
_IDLE_SECONDS = 0.5
"""How long the end waits for connections that are open between two requests."""
_NEW_SECONDS = 0.25
"""How long it waits for the first request of a connection that was made at the last moment."""
_GRACE_SECONDS = 10
_LOOK_SECONDS = 0.01


async def serve_app(
    app: ASGIApp,
    listeners: Listeners,
    stop: asyncio.Event,
    on_started: Callable[[], None],
    wind_down: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve `app` on `listeners` until `stop` is set, then let the requests in flight end (at most 10 s).

    `wind_down` runs after `stop`, while requests are still answered: what takes time belongs there, since between the
    end of listening and the next server connections are refused.
    """
    config = uvicorn.Config(
        app,
        http=JoinedHttp,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(config, listeners, on_started, wind_down or _nothing)

    async def wait_for_stop() -> None:
        await stop.wait()
        server.should_exit = True

    waiting = asyncio.create_task(wait_for_stop())
    with listeners:
        try:
            await server.serve(list(listeners.sockets))
        finally:
            waiting.cancel()


async def _nothing() -> None:
    return


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to us: it would raise them again before our own orderly end."""

    def __init__(
        self,
        config: uvicorn.Config,
        listeners: Listeners,
        on_started: Callable[[], None],
        wind_down: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._listeners = listeners
        self._on_started = on_started
        self._wind_down = wind_down

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._listeners.inherited:
            self._stop_listening()  # who comes now waits in the socket for the next server
        connections = self.server_state.connections
        old = set(connections)
        winding = asyncio.ensure_future(self._wind_down())
        try:
            await _until(lambda: not old & connections, _IDLE_SECONDS)
            await asyncio.wait([winding])
        finally:
            winding.cancel()
        for connection in old & connections:
            connection.shutdown()
        if not self._listeners.inherited:
            await self._take_last()
        await _until(lambda: not connections, _NEW_SECONDS)
        await super().shutdown(sockets)
        winding.result()

    def _stop_listening(self) -> None:
        for server in self.servers:
            server.close()
        self._listeners.close()

    async def _take_last(self) -> None:
        """Stop listening, and take what the kernel has accepted by then: it would be cut otherwise."""
        taken: list[socket.socket] = []
        spares = [one.dup() for one in self._listeners.sockets]
        self._stop_listening()
        await asyncio.sleep(0)
        for spare in spares:
            with spare, contextlib.suppress(OSError):
                spare.setblocking(False)
                while True:
                    taken.append(spare.accept()[0])
        for one in taken:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, one)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made


async def _until(reached: Callable[[], bool], seconds: float) -> None:
    """Wait until `reached`, at most `seconds`."""
    for _ in range(round(seconds / _LOOK_SECONDS)):
        if reached():
            return
        await asyncio.sleep(_LOOK_SECONDS)
