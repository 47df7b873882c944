"""The server as a whole: store, backend and controller opened in order, and closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta

from starlette.applications import Starlette

from tesk.backends.base import Backend, BackendAway
from tesk.backends.local.backend import LocalBackend, LocalOptions
from tesk.backends.local.engine import EngineUnavailable
from tesk.config import Config
from tesk.controller import Controller, ControllerOptions, Retention
from tesk.plan.site import Capacity
from tesk.server.app import create_app
from tesk.server.exclusive import StateDirectoryInUse, held
from tesk.server.listen import CannotServe, Listeners, hosts_of, listeners
from tesk.server.logs import log_to_stderr
from tesk.server.memory import keep_freed_memory
from tesk.server.reload import Reloader
from tesk.server.service_info import ServiceInfo
from tesk.server.serving import serve_app
from tesk.server.systemd import notify
from tesk.server.tasks import Tasks
from tesk.storage import Storage
from tesk.store import Store, StoreError

__all__ = ["CannotServe", "Service", "open_service", "run_server", "serve"]

_log = logging.getLogger("tesk.server")

_GIGABYTE = 10**9


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that runs. Setting `stopping` ends the streams of `app` and makes `/readyz` say no.

    `stop_work` ends the controller and the backend, once; what only needs the store is answered on.
    """

    config: Config
    store: Store
    backend: Backend
    controller: Controller
    tasks: Tasks
    info: ServiceInfo
    app: Starlette
    stopping: asyncio.Event
    stop_work: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def open_service(
    config: Config, environ: Mapping[str, str] | None = None, *, hosts: frozenset[str] | None = None
) -> AsyncIterator[Service]:
    """Open the store, the backend and the controller, and close them in reverse; nothing listens.

    `environ` holds the storage credentials (`AWS_*`); None is the process's own environment. `hosts` are the names that
    the application answers to, None: any. Raises CannotServe with a sentence for whoever runs the server.
    """
    try:
        async with contextlib.AsyncExitStack() as opened:
            service = await _open(config, os.environ if environ is None else environ, opened, hosts)
            yield service
            service.stopping.set()
    except (BackendAway, EngineUnavailable, StateDirectoryInUse, StoreError) as error:
        raise CannotServe(str(error)) from error


async def _open(
    config: Config, environ: Mapping[str, str], opened: contextlib.AsyncExitStack, hosts: frozenset[str] | None
) -> Service:
    try:
        config.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotServe(
            f"The state directory {config.state_directory} cannot be made ({error.strerror}); "
            "set state_directory (TESK_STATE_DIRECTORY) to one that can."
        ) from error
    opened.enter_context(held(config.state_directory))
    store = await Store.open(config.store_place, hide_canceling=not config.tasks.show_canceling)
    opened.push_async_callback(store.close)
    secret = await store.secret()
    backend = await _backend(config, environ, opened, secret)
    controller = Controller(
        store,
        backend,
        ControllerOptions(config.tasks.max_attempts, config.controller.full_pass_seconds, config.tasks.show_preempted),
    )
    await controller.start()
    stop_work = _once(controller.stop)
    opened.push_async_callback(stop_work)
    tasks = Tasks(store, config.site(backend.capacity))
    stopping = asyncio.Event()
    info = ServiceInfo(config.service, tasks.site)
    app = create_app(tasks, controller, config, secret=secret, stopping=stopping, info=info, hosts=hosts)
    return Service(config, store, backend, controller, tasks, info, app, stopping, stop_work)


def _once(work: Callable[[], Coroutine[None, None, None]]) -> Callable[[], Awaitable[None]]:
    """`work`, which whoever calls first begins and all await: a second server may hold what a second call would end."""
    begun: list[asyncio.Task[None]] = []

    async def once() -> None:
        if not begun:
            begun.append(asyncio.create_task(work()))
        await asyncio.shield(begun[0])

    return once


async def _backend(
    config: Config, environ: Mapping[str, str], opened: contextlib.AsyncExitStack, secret: bytes
) -> Backend:
    if config.backend == "local":
        for one in config.shared.values():
            if not os.path.isdir(one.directory or ""):
                raise CannotServe(f"The shared storage '{one.name}' is not there: {one.directory} is not a directory.")
        storage = await opened.enter_async_context(Storage(config.storage_options(environ)))
        return LocalBackend(_local_options(config), storage)
    try:
        from tesk.backends.kubernetes.backend import KubernetesBackend
    except ImportError as error:
        raise CannotServe("The Kubernetes backend needs lightkube: pip install 'tesk[kubernetes]'.") from error
    options = config.kubernetes_options()
    if not options.instance:  # servers of one store are one installation, and no others
        store = hashlib.sha256(b"instance" + secret).hexdigest()[:8]
        options = dataclasses.replace(options, instance=f"tesk-{store}")
    reports = hashlib.sha256(b"reports" + secret).digest()
    return KubernetesBackend(options, config.storage_settings, report_secret=reports)


def _local_options(config: Config) -> LocalOptions:
    local = config.local
    return LocalOptions(
        state=config.state_directory,
        engine=local.engine,
        capacity=Capacity(local.cpu_cores, _bytes(local.ram_gb), _bytes(local.disk_gb)),
        log_bytes=config.tasks.log_bytes,
        network=local.network,
        pids=local.pids,
        scratch_bytes=_bytes(local.scratch_gb),
        max_runtime=local.max_runtime,
        lasting=local.lasting,
    )


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else round(gigabytes * _GIGABYTE)


async def serve(
    config: Config,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
    environ: Mapping[str, str] | None = None,
    reloader: Reloader | None = None,
    listening: Listeners | None = None,
) -> None:
    """Serve until `stop` is set; `on_ready` is told the URL once requests are answered.

    `environ` holds the storage credentials, and what systemd says (systemd.py). `reloader` keeps the service
    information up to date. `listening` is what `listeners` gave, if that was done before: whoever comes while the rest
    is opened waits, and is not refused. Raises CannotServe with a sentence when that cannot be begun.
    """
    environ = os.environ if environ is None else environ
    listening = listening or listeners(config.server, environ)
    for warning in listening.warnings:
        _log.warning("%s", warning)
    with listening:
        url = listening.url
        async with open_service(config, environ, hosts=hosts_of(config.server, listening)) as service:
            aside = [asyncio.create_task(_tell_stop(service, stop, environ))]
            if config.tasks.keep_records is not None:
                retention = Retention(service.store, timedelta(days=config.tasks.keep_records))
                aside.append(asyncio.create_task(retention.run()))
            if reloader is not None:
                aside.append(asyncio.create_task(reloader.run(service.info.use)))

            def started() -> None:
                notify(environ, "READY=1")
                on_ready(url)
                keep_freed_memory()

            try:
                await serve_app(service.app, listening, stop, started, service.stop_work)
            finally:
                for task in aside:
                    task.cancel()


async def _tell_stop(service: Service, stop: asyncio.Event, environ: Mapping[str, str]) -> None:
    await stop.wait()
    service.stopping.set()
    notify(environ, "STOPPING=1")


def run_server(
    config: Config,
    on_ready: Callable[[str], None] | None = None,
    reloader: Reloader | None = None,
    listening: Listeners | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second signal does not wait for what is in flight.

    Prints `TESK is ready at http://…` once it is, unless `on_ready` does something else with the URL. With a
    `reloader`, SIGHUP has the configuration read again. `listening`: see `serve`. Raises CannotServe with a sentence
    when the server cannot begin.
    """
    import uvloop

    log_to_stderr()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.run(_serve_until_signal(config, on_ready or _print_ready, reloader, listening))


async def _serve_until_signal(
    config: Config, on_ready: Callable[[str], None], reloader: Reloader | None, listening: Listeners | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    serving = asyncio.create_task(serve(config, stop, on_ready, None, reloader, listening))
    terminal = _on_terminal()

    def on_end() -> None:
        if stop.is_set():
            serving.cancel()
        stop.set()

    def on_hangup() -> None:
        if reloader is None or (terminal and not _on_terminal()):
            on_end()  # the terminal was closed, and nobody would end what goes on behind it
        else:
            reloader.ask()

    actions = {signal.SIGTERM: on_end, signal.SIGINT: on_end, signal.SIGHUP: on_hangup}
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    try:
        await serving
    finally:
        for number in actions:
            loop.remove_signal_handler(number)


def _on_terminal() -> bool:
    """Whether stdin is a terminal that is still there."""
    try:
        return os.isatty(0)
    except OSError:
        return False


def _print_ready(url: str) -> None:
    print(f"TESK is ready at {url}", flush=True)
