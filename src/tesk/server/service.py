"""The server as a whole: store, backend and controller opened in order, and closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from starlette.applications import Starlette

from tesk.backends.local.backend import LocalBackend, LocalOptions, StateDirectoryInUse
from tesk.backends.local.engine import EngineUnavailable
from tesk.config import Config
from tesk.controller import Controller, ControllerOptions
from tesk.plan.site import Capacity
from tesk.server.app import create_app
from tesk.server.listen import CannotServe, bind, check_exposure, serve_app, url_of
from tesk.server.logs import log_to_stderr
from tesk.server.tasks import Tasks
from tesk.storage import Storage
from tesk.store import Store, StoreError

__all__ = ["CannotServe", "Service", "open_service", "run_server", "serve"]

_log = logging.getLogger("tesk.server")

_GIGABYTE = 10**9


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that runs. Setting `stopping` ends the streams of `app` and makes `/readyz` say no."""

    config: Config
    store: Store
    backend: LocalBackend
    controller: Controller
    tasks: Tasks
    app: Starlette
    stopping: asyncio.Event


@contextlib.asynccontextmanager
async def open_service(config: Config, environ: Mapping[str, str] | None = None) -> AsyncIterator[Service]:
    """Open the store, the backend and the controller, and close them in reverse; nothing listens.

    `environ` holds the storage credentials (`AWS_*`); None is the process's own environment. Raises CannotServe with
    a sentence for whoever runs the server.
    """
    try:
        async with contextlib.AsyncExitStack() as opened:
            service = await _open(config, os.environ if environ is None else environ, opened)
            yield service
            service.stopping.set()
    except (EngineUnavailable, StateDirectoryInUse, StoreError) as error:
        raise CannotServe(str(error)) from error


async def _open(config: Config, environ: Mapping[str, str], opened: contextlib.AsyncExitStack) -> Service:
    try:
        config.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotServe(
            f"The state directory {config.state_directory} cannot be made ({error.strerror}); "
            "set state_directory (TESK_STATE_DIRECTORY) to one that can."
        ) from error
    store = await Store.open(config.store_place, hide_canceling=not config.tasks.show_canceling)
    opened.push_async_callback(store.close)
    secret = await store.secret()
    storage = await opened.enter_async_context(Storage(config.storage_options(environ)))
    backend = LocalBackend(_local_options(config), storage)
    controller = Controller(
        store,
        backend,
        ControllerOptions(config.tasks.max_attempts, config.controller.full_pass_seconds, config.tasks.show_preempted),
    )
    await controller.start()
    opened.push_async_callback(controller.stop)
    tasks = Tasks(store, config.site(backend.capacity))
    stopping = asyncio.Event()
    app = create_app(tasks, controller, config, secret=secret, stopping=stopping)
    return Service(config, store, backend, controller, tasks, app, stopping)


def _local_options(config: Config) -> LocalOptions:
    local = config.local
    return LocalOptions(
        state=config.state_directory,
        engine=local.engine,
        capacity=Capacity(local.cpu_cores, _bytes(local.ram_gb), _bytes(local.disk_gb)),
        log_bytes=config.tasks.log_bytes,
    )


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else round(gigabytes * _GIGABYTE)


async def serve(
    config: Config,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
    environ: Mapping[str, str] | None = None,
) -> None:
    """Serve until `stop` is set; `on_ready` is told the URL once requests are answered.

    Raises CannotServe with a sentence when that cannot be begun.
    """
    exposed = check_exposure(config.server)
    if exposed:
        _log.warning("%s", exposed)
    with bind(config.server.host, config.server.port) as bound:
        async with open_service(config, environ) as service:
            url = url_of(bound)

            async def tell_streams() -> None:
                await stop.wait()
                service.stopping.set()

            telling = asyncio.create_task(tell_streams())
            try:
                await serve_app(service.app, bound, stop, lambda: on_ready(url))
            finally:
                telling.cancel()


def run_server(config: Config, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; a second signal does not wait for what is in flight.

    Prints `TESK is ready at http://…` once it is, unless `on_ready` does something else with the URL. Raises
    CannotServe with a sentence when the server cannot begin.
    """
    import uvloop

    log_to_stderr()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.run(_serve_until_signal(config, on_ready or _print_ready))


async def _serve_until_signal(config: Config, on_ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    serving = asyncio.create_task(serve(config, stop, on_ready))

    def on_signal() -> None:
        if stop.is_set():
            serving.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await serving
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _print_ready(url: str) -> None:
    print(f"TESK is ready at {url}", flush=True)
