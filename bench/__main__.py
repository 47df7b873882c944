"""`python -m bench [--strict] [--only TEXT] [NAME…]`: run the benchmarks, print a table, write build/bench.json."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.api import api_rates, filters, latency, memory
from bench.figures import Figure
from bench.files import transfers
from bench.followers import followers
from bench.growth import growth
from bench.local import no_op_tasks
from bench.pod import taskmaster_start
from bench.podman import podman_tasks
from bench.process import help_time, serve_ready
from bench.queue import queued_tasks


def benchmarks(only: str) -> dict[str, Callable[[], list[Figure]]]:
    """Every benchmark; a later one joins here. `only` picks rows of those that measure many."""
    return {
        "help": help_time,
        "serve": serve_ready,
        "tasks": no_op_tasks,
        "queue": queued_tasks,
        "podman": podman_tasks,
        "taskmaster": taskmaster_start,
        "api": partial(api_rates, only),
        "filters": partial(filters, only),
        "latency": latency,
        "memory": memory,
        "followers": followers,
        "growth": growth,
        "files": partial(transfers, only),
        "kube": partial(_kube, only),
    }


def _kube(only: str) -> list[Figure]:
    from bench.kube import kubernetes

    return kubernetes(only)


ASKED_FOR = {"growth", "kube"}
"""Measured only by name."""


OUTPUT = Path("build/bench.json")


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all."""
    known = benchmarks("")
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and print figures beside goals.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"all but growth and kube, or some of: {', '.join(known)}"
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="of api, filters, files and kube: rows or parts with TEXT in the name",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.names if name not in known]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(known)}")
    figures: list[Figure] = []
    for name in asked.names or [one for one in known if one not in ASKED_FOR]:
        figures += benchmarks(asked.only)[name]()
    if not figures and asked.only:
        parser.error(f"no row has {asked.only!r} in its name")
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps([one.row() for one in figures], indent=1) + "\n")
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {OUTPUT}")
    width = max((len(one.name) for one in figures), default=0)
    for one in figures:
        print(one.line(width))
    return 1 if asked.strict and not all(one.holds for one in figures) else 0


sys.exit(main(sys.argv[1:]))
