"""`python -m bench [--strict] [NAME…]`: run the benchmarks, print a table, write build/bench.json.

With --strict the exit code is 1 when a goal is missed; without, a busy machine fails nothing.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

from bench.figures import Figure
from bench.local import no_op_tasks
from bench.process import help_time, serve_ready

BENCHMARKS = {
    "help": help_time,
    "serve": serve_ready,
    "tasks": no_op_tasks,
}
"""A later benchmark joins here."""

OUTPUT = Path("build/bench.json")


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    strict = "--strict" in names
    names = [one for one in names if one != "--strict"]
    unknown = [one for one in names if one not in BENCHMARKS]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    for name in names or BENCHMARKS:
        figures += BENCHMARKS[name]()
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps([one.row() for one in figures], indent=1) + "\n")
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {OUTPUT}")
    width = max(len(one.name) for one in figures)
    for one in figures:
        print(one.line(width))
    return 1 if strict and not all(one.holds for one in figures) else 0


sys.exit(main(sys.argv[1:]))
