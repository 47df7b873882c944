"""How many requests a second the API answers, with 1,000 and with 1,000,000 tasks in the store.

Two servers, one for each size, are measured in turns, so that what else the machine does hits both alike. Nothing
executes meanwhile: `local.cpu_cores` is 1 and one task that sleeps holds that core, so what is created stays QUEUED
(and it is checked that it did). The controller works as always: it hears of each task and finds no room.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import sqlite3
import statistics
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench import load, seed
from bench.bare import BareServer, fsyncs, inserts
from bench.figures import Figure
from bench.server import Server
from tesk.server.tokens import PageTokens

__all__ = ["api_rates", "filters", "latency", "memory"]

SIZES = (1_000, 1_000_000)
CACHE = Path("build/bench")
API = "/ga4gh/tes/v1"
CONNECTIONS = 8
ROUNDS = 3
ROUND_SECONDS = 0.6
SLOWER = 1.5
"""How much slower than with 1,000 tasks it may be with 1,000,000."""
REQUESTS = 100_000
GROWTH_MIB = 5.0


@dataclass(frozen=True)
class _Site:
    """A server over a seeded store of `size` tasks."""

    size: int
    server: Server
    tokens: PageTokens

    @property
    def url(self) -> str:
        return self.server.url

    def page_of(self, part: float) -> str:
        """The token for the page that begins after this part of the list."""
        return self.tokens.make(int(self.size * (1 - part)) + 1)


@contextlib.contextmanager
def _sites(*sizes: int) -> Iterator[list[_Site]]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        sites = []
        for size in sizes:
            store = seed.seeded(CACHE, size)
            _warm(store)
            opened.callback(seed.remove_after, store, size)
            directory = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            server = opened.enter_context(
                Server(
                    directory,
                    TESK_SERVER_ACCESS_LOG="false",
                    TESK_STORE_URL=f"sqlite:///{store.absolute()}",
                    TESK_LOCAL_CPU_CORES="1",
                )
            )
            _occupy(server.url)
            with closing(sqlite3.connect(store)) as connection:
                (secret,) = connection.execute("SELECT value FROM meta WHERE key = 'secret'").fetchone()
            sites.append(_Site(size, server, PageTokens(secret)))
        yield sites
        for site in sites:
            _check_idle(site.url)


def _warm(path: Path) -> None:
    """Have the file in the machine's memory: this compares 1,000 tasks with 1,000,000, and not disks."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _occupy(url: str) -> None:
    """Give the only core to a task that sleeps."""
    task = {"executors": [{"image": "none", "command": ["sleep", "3600"]}], "resources": {"cpu_cores": 1}}
    request = urllib.request.Request(f"{url}{API}/tasks", json.dumps(task).encode(), method="POST")
    urllib.request.urlopen(request).close()


def _check_idle(url: str) -> None:
    """Nothing but the sleeping task may have left the queue."""
    left = [
        task["id"]
        for state in ("RUNNING", "INITIALIZING")
        for task in json.load(urllib.request.urlopen(f"{url}{API}/tasks?state={state}"))["tasks"]
    ]
    if len(left) != 1:
        raise RuntimeError(f"{len(left)} tasks run instead of the one that holds the core")


def _creates() -> Iterator[bytes]:
    return (
        load.post(f"{API}/tasks", json.dumps(seed.body(number), separators=(",", ":")).encode())
        for number in itertools.count()
    )


def _gets(size: int, view: str) -> Iterator[bytes]:
    """Of tasks anywhere in the store."""
    chosen = random.Random(size)
    return (load.get(f"{API}/tasks/{seed.task_id(chosen.randint(1, size))}?view={view}") for _ in itertools.count())


def _same(path: str) -> Iterator[bytes]:
    return itertools.repeat(load.get(path))


@dataclass(frozen=True)
class _Measured:
    """The medians of the rounds, in answers a second, and the size of an answer."""

    rates: tuple[float, ...]
    body: int
    share: float


def _measure(sites: list[_Site], requests: list[Iterator[bytes]]) -> _Measured:
    """In turns; the first, short turn warms caches up."""
    rates: list[list[float]] = [[] for _ in sites]
    body, share = 0, 0.0
    for turn in range(ROUNDS + 1):
        for site, stream, seen in zip(sites, requests, rates, strict=True):
            done = load.run(site.url, stream, CONNECTIONS, seconds=ROUND_SECONDS if turn else ROUND_SECONDS / 3)
            body, share = done.body, done.generator_share
            if turn:
                seen.append(done.rate)
    return _Measured(tuple(statistics.median(one) for one in rates), body, share)


def _rows(name: str, goal: float | None, measured: _Measured, beside: str, *, compare: bool = True) -> list[Figure]:
    rows = [
        Figure(f"{name}, {size:,} tasks", rate, "/s", goal, "more", beside=beside)
        for size, rate in zip(SIZES, measured.rates, strict=True)
    ]
    if compare:
        rows.append(Figure(f"  {SIZES[0]:,} : {SIZES[1]:,}", measured.rates[0] / measured.rates[1], "times", SLOWER))
    return rows


def api_rates(only: str = "") -> list[Figure]:
    """Creates, lists and single tasks; `only` picks rows whose name has it."""
    figures: list[Figure] = []
    with _sites(*SIZES) as sites, BareServer() as bare:

        def constant(size: int) -> str:
            done = load.run(bare.url, _same(f"/{size}"), CONNECTIONS, seconds=ROUND_SECONDS)
            return f"bare Starlette, the same bytes: {done.rate:.0f}/s; generator at {done.generator_share:.0%}"

        for view, goal in (("MINIMAL", 1200.0), ("BASIC", 700.0), ("FULL", 400.0)):
            if only in (name := f"list of 256, {view}"):
                found = _measure(sites, [_same(f"{API}/tasks?page_size=256&view={view}") for _ in sites])
                figures += _rows(f"{name} ({found.body // 1000} kB)", goal, found, constant(found.body))
        for view in ("MINIMAL", "FULL"):
            if only in (name := f"get, {view}"):
                found = _measure(sites, [_gets(site.size, view) for site in sites])
                figures += _rows(name, 3000.0, found, constant(found.body))
        if only in (name := "create, durable"):
            with tempfile.TemporaryDirectory(dir=CACHE) as directory:
                alone = inserts(Path(directory), ROUND_SECONDS)
                synced = fsyncs(Path(directory), ROUND_SECONDS)
            found = _measure(sites, [_creates() for _ in sites])
            beside = f"bare sqlite3, one row a commit: {alone:.0f}/s; bare fsync: {synced:.0f}/s"
            figures += _rows(name, 1000.0, found, beside)
    return figures


FILTERS: list[tuple[str, str, bool]] = [
    ("state, frequent", "state=COMPLETE", True),
    ("state, 2 %", "state=EXECUTOR_ERROR&page_size=16", True),
    ("state, none", "state=PAUSED", True),
    ("tag, frequent", "tag_key=engine&tag_value=nextflow", True),
    ("tag, 2 %", "tag_key=project&tag_value=project-07&page_size=16", True),
    ("tag, one task", "tag_key=sample&tag_value=sample_0000500", True),
    ("tag, any value, frequent", "tag_key=sample", True),
    ("tag, any value, 0.2 %", "tag_key=held", False),
    ("name prefix, half of all", "name_prefix=NFCORE_RNASEQ", True),
    ("name prefix, 5 %", "name_prefix=NFCORE_SAREK:ALIGN&page_size=16", True),
    ("name prefix, one task", "name_prefix=NFCORE_RNASEQ:FASTQC+(sample_0000500", True),
    ("frequent tag and state", "tag_key=engine&tag_value=nextflow&state=COMPLETE", True),
    ("frequent tag, rare state", "tag_key=engine&tag_value=nextflow&state=SYSTEM_ERROR&page_size=16", False),
    ("rare tag, frequent state", "tag_key=project&tag_value=project-07&state=COMPLETE&page_size=16", True),
    ("two tags", "tag_key=engine&tag_value=nextflow&tag_key=project&tag_value=project-07&page_size=16", True),
    ("tag and prefix", "tag_key=project&tag_value=project-07&name_prefix=NFCORE_SAREK&page_size=8", False),
    ("prefix and rare state", "name_prefix=NFCORE&state=SYSTEM_ERROR&page_size=16", False),
]
"""What is asked for, and whether both sizes have the same number of tasks to show."""


def filters(only: str = "") -> list[Figure]:
    """Lists with filters, and pages far down, in the MINIMAL view; `only` picks rows whose name has it."""
    figures: list[Figure] = []
    with _sites(*SIZES) as sites:
        for name, query, same in FILTERS:
            if only in name:
                found = _measure(sites, [_same(f"{API}/tasks?{query}") for _ in sites])
                figures += _rows(f"list by {name}", None, found, f"{found.body} bytes", compare=same)
        for name, query in (("", ""), (" by frequent tag", "tag_key=engine&tag_value=nextflow&")):
            if only in (name := f"page half way down{name}"):
                paths = [f"{API}/tasks?{query}page_token={site.page_of(0.5)}" for site in sites]
                found = _measure(sites, [_same(path) for path in paths])
                figures += _rows(name, None if query else 1200.0, found, f"{found.body} bytes")
    return figures


def latency() -> list[Figure]:
    """How long a GET takes while eight connections create."""
    figures = []
    with _sites(*SIZES) as sites:
        for site in sites:
            streams = [(_creates(), CONNECTIONS), (_gets(site.size, "FULL"), 1)]
            load.run_together(site.url, streams, seconds=ROUND_SECONDS)
            creates, gets = load.run_together(site.url, streams, seconds=5 * ROUND_SECONDS)
            figures.append(
                Figure(
                    f"GET while 8 connections create, p99, {site.size:,} tasks",
                    gets.percentile(0.99),
                    "ms",
                    20.0,
                    beside=f"median {gets.percentile(0.5):.1f} ms, {len(gets.seconds)} GETs, "
                    f"{creates.rate:.0f} creates/s meanwhile",
                )
            )
    return figures


def memory() -> list[Figure]:
    """What 100,000 requests of every kind leave in the server's memory."""

    def mixed(size: int) -> Iterator[bytes]:
        gets, creates = _gets(size, "FULL"), _creates()
        lists = itertools.cycle(
            load.get(f"{API}/tasks?page_size=16&{query}")
            for query in (
                "view=FULL",
                "state=COMPLETE",
                "tag_key=engine&tag_value=nextflow&view=BASIC",
                "name_prefix=N",
            )
        )
        unknown = load.get(f"{API}/service-info")
        for number in itertools.count():
            yield (
                unknown
                if number % 50 == 1
                else next(creates if number % 50 == 2 else lists if number % 10 == 3 else gets)
            )

    with _sites(SIZES[0]) as (site,):
        requests = mixed(site.size)
        load.run(site.url, requests, CONNECTIONS, count=REQUESTS // 5)
        before = site.server.rss()
        done = load.run(site.url, requests, CONNECTIONS, count=REQUESTS)
        after = site.server.rss()
    return [
        Figure(
            f"RSS growth over {REQUESTS:,} requests",
            after - before,
            "MiB",
            GROWTH_MIB,
            beside=f"{before:.1f} before, {after:.1f} after; {done.rate:.0f} requests/s",
        )
    ]
