"""`tesk check`: what works on this machine or in its cluster, and what to do about what does not."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tesk.backends.finding import Finding
from tesk.cli.faults import FAILED
from tesk.cli.options import AsJson, ConfigFile

if TYPE_CHECKING:
    from tesk.config import Config

__all__ = ["check"]


def check(config: ConfigFile = None, json: AsJson = False) -> None:
    """Say what works here, or in the cluster.

    Exit code 1 if `tesk serve` could not work.
    """
    import asyncio

    from tesk.cli.screen import print_json, print_line

    async def look() -> bool:
        fine = True
        async for finding in _findings(config):
            if json:
                print_json(asdict(finding))
            else:
                print_line(f"{finding.status:<4} {finding.what}: {finding.message}")
            fine = fine and finding.status != "fail"
        return fine

    if not asyncio.run(look()):
        raise typer.Exit(FAILED)


async def _findings(path: Path | None) -> AsyncIterator[Finding]:
    from tesk.config import ConfigError, load_with_sources

    yield _python()
    try:
        loaded = load_with_sources(path, os.environ)
    except ConfigError as error:
        for fault in error.faults:
            yield Finding("configuration", "fail", fault)
        return
    config = loaded.config
    yield Finding("configuration", "ok", str(loaded.file or "no file, so the defaults hold"))
    for warning in loaded.warnings:
        yield Finding("configuration", "no", warning)
    yield _state_directory(config)
    yield await _store(config)
    async for finding in _kubernetes(config) if config.backend == "kubernetes" else _local(config):
        yield finding
    for finding in _shared(config):
        yield finding
    yield _address(config)


def _python() -> Finding:
    from tesk import __version__

    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version} runs tesk {__version__}")


def _state_directory(config: Config) -> Finding:
    directory = config.state_directory
    there = next(one for one in (directory, *directory.parents) if one.exists())
    if not there.is_dir():
        return Finding("state directory", "fail", f"{there} is not a directory; set state_directory to another")
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding("state directory", "fail", f"{there} is not writable; set state_directory to one that is")
    return Finding("state directory", "ok", str(directory) + ("" if there == directory else " (will be made)"))


async def _store(config: Config) -> Finding:
    from tesk.store import Store, StoreError

    place = config.store_place
    if isinstance(place, Path) and not place.exists():
        return Finding("store", "ok", f"{place} (will be made)")
    try:
        store = await Store.open(place)
        try:
            await store.state("none")
        finally:
            await store.close()
    except StoreError as error:
        return Finding("store", "fail", str(error))
    return Finding("store", "ok", store.place)


def _shared(config: Config) -> Iterator[Finding]:
    """What clients and tasks share, and how TESK's old names for it were understood."""
    for key, one in config.shared.items():
        where = f"PersistentVolumeClaim {one.pvc}" if config.backend == "kubernetes" else f"directory {one.directory}"
        meant = f"{where}, which URLs name {one.client_path}, is mounted instead of copied"
        seen = f" (tasks see it at {one.task_path})" if one.task_path not in (None, one.client_path) else ""
        read = ", for reading only" if one.read_only else ""
        what = f"shared storage {one.name}"
        if config.backend == "local" and not os.path.isdir(one.directory or ""):
            yield Finding(what, "fail", f"{one.directory} is not a directory; make or mount it, or change {key}")
        else:
            yield Finding(what, "ok", f"{meant}{read}{seen}; from {key}")
    if config.transfer.active is False and config.transfer.pvc_name:
        yield Finding(
            "shared storage", "no", f"transfer.active is false, so that {config.transfer.pvc_name} is not used"
        )


async def _local(config: Config) -> AsyncIterator[Finding]:
    async for finding in _engines(config):
        yield finding
    for finding in _storage(config):
        yield finding
    yield _capacity(config)


async def _kubernetes(config: Config) -> AsyncIterator[Finding]:
    try:
        from tesk.backends.kubernetes.checkup import check_cluster
    except ImportError:
        yield Finding("cluster", "fail", "lightkube is not installed; pip install 'tesk[kubernetes]'")
        return
    async for finding in check_cluster(config.kubernetes_options(), config.storage_settings):
        yield finding


async def _engines(config: Config) -> AsyncIterator[Finding]:
    """Each engine, also where the site has chosen one, tried in a directory of its own.

    A server that runs here is left alone.
    """
    import tempfile

    from tesk.backends.local.backend import LocalOptions, make_engines
    from tesk.backends.local.engine import EngineUnavailable

    asked, found = config.local.engine, False
    runs = "works; runs tasks here" + ("" if config.local.network else ", without a network (local.network)")
    with tempfile.TemporaryDirectory(prefix="tesk-check-") as state:
        for engine in make_engines(LocalOptions(Path(state), network=config.local.network)):
            what = f"engine {engine.name}"
            try:
                await engine.start()
            except EngineUnavailable as error:
                yield Finding(what, "no", str(error))
                continue
            await engine.stop()
            chosen = not found and asked in ("auto", engine.name)
            found = found or chosen
            unheld = "".join(f"; {name} {instead}" for name, instead in engine.unheld.items())
            yield Finding(what, "ok", f"{runs if chosen else 'works'}{unheld}")
    if not found:
        which = "none works" if asked == "auto" else f"local.engine asks for {asked}, which does not work"
        yield Finding("engines", "fail", f"{which}; do what one of the lines above says")


def _storage(config: Config) -> Iterator[Finding]:
    from tesk.config import ConfigError

    try:
        options = config.storage_options(os.environ)
    except ConfigError as error:
        yield Finding("storage", "fail", str(error))
        return
    if not options.file_roots and not options.shared:
        yield Finding("storage", "no", "tasks may name no files; list directories in storage.file_roots to allow it")
    for root in options.file_roots:
        if not os.path.isdir(root):
            yield Finding("storage", "fail", f"{root} is not a directory; take it out of storage.file_roots")
        elif not os.access(root, os.R_OK | os.X_OK):
            yield Finding("storage", "fail", f"{root} is not readable; take it out of storage.file_roots")
        else:
            writable = os.access(root, os.W_OK)
            yield Finding("storage", "ok", f"{root} ({'read and write' if writable else 'read only'})")


def _capacity(config: Config) -> Finding:
    from tesk.backends.local.machine import measure

    directory = config.state_directory
    found = measure(next(one for one in (directory, *directory.parents) if one.is_dir()))
    cores = config.local.cpu_cores or found.cpu_cores or 0
    ram = config.local.ram_gb or (found.ram_bytes or 0) / 1e9
    disk = config.local.disk_gb or (found.disk_bytes or 0) / 1e9
    return Finding("capacity", "ok", f"{cores:g} cores, {ram:.1f} GB of memory, {disk:.1f} GB of disk for tasks")


def _address(config: Config) -> Finding:
    from tesk.server.listen import CannotServe, bind, check_exposure

    server = config.server
    try:
        warning = check_exposure(server)
        bind(server.host, server.port).close()
    except CannotServe as error:
        return Finding("address", "fail", str(error))
    return Finding("address", "ok", warning or f"{server.host}:{server.port} is free")
