"""The demo's tasks: statistics of each FASTQ chunk, one table of them all, and two tasks that do not complete."""

from __future__ import annotations

from typing import Any

__all__ = ["BROKEN_RECORD", "IMAGE", "broken_task", "gather_task", "sleeping_task", "stats_task"]

BROKEN_RECORD = 17
IMAGE = "alpine:3.20"
"""What the tasks need: sh, sort and awk; the sandbox uses the machine's own."""

_TAG = "demo"

# Any POSIX awk: mawk, gawk, busybox. No /dev/stderr, which a sandbox may not have.
STATS = r"""
# stats.sh NAME FASTQ TABLE: reads, bases, bases that are G or C, sum of Phred qualities
set -eu
export LC_ALL=C
awk -v name="$1" '
  function wrong(what) {
    printf "%s: record %d: %s\n", name, int((NR + 3) / 4), what | "cat 1>&2"
    failed = 1
    exit 3
  }
  BEGIN { for (code = 33; code < 127; code++) phred[sprintf("%c", code)] = code - 33 }
  NR % 4 == 1 && substr($0, 1, 1) != "@" { wrong("does not begin with @") }
  NR % 4 == 2 { width = length($0); bases += width; reads++; gc += gsub(/[GC]/, "") }
  NR % 4 == 0 {
    if (length($0) != width) wrong(width " bases but " length($0) " qualities")
    for (at = 1; at <= width; at++) sum += phred[substr($0, at, 1)]
  }
  END {
    if (failed) exit 3
    printf "%s\t%d\t%d\t%d\t%d\n", name, reads, bases, gc, sum
  }
' "$2" > "$3"
"""

GATHER = r"""
# gather.sh DIRECTORY TABLE: shares and means of each sample, and of all together
set -eu
export LC_ALL=C
cat "$1"/*.tsv | sort | awk -F '\t' '
  function row(name, reads, bases, gc, sum) {
    printf "%s\t%d\t%d\t%.4f\t%.2f\n", name, reads, bases, gc / bases, sum / bases
  }
  BEGIN { print "sample\treads\tbases\tgc\tquality" }
  { row($1, $2, $3, $4, $5); reads += $2; bases += $3; gc += $4; sum += $5 }
  END { row("total", reads, bases, gc, sum) }
' > "$2"
"""


def _task(name: str, image: str, command: list[str], **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "tags": {"project": _TAG},
        "executors": [{"image": image, "command": command}],
        "resources": {"cpu_cores": 0.5, "ram_gb": 0.25, "disk_gb": 0.1},
        **fields,
    }


def stats_task(name: str, image: str, fastq: str, table: str) -> dict[str, Any]:
    """Scatter: the sums of the file at the URL `fastq`, by a script that travels in the task."""
    command = ["/bin/sh", "/data/stats.sh", name, "/data/reads.fastq", "/results/stats.tsv"]
    return _task(
        f"stats of {name}",
        image,
        command,
        inputs=[
            {"name": "script", "path": "/data/stats.sh", "content": STATS},
            {"name": "reads", "path": "/data/reads.fastq", "url": fastq},
        ],
        outputs=[{"name": "table", "path": "/results/stats.tsv", "url": table}],
    )


def gather_task(image: str, tables: str, table: str) -> dict[str, Any]:
    """Gather: one table from a directory of sums."""
    return _task(
        "gather",
        image,
        ["/bin/sh", "/data/gather.sh", "/data/tables", "/results/table.tsv"],
        inputs=[
            {"name": "script", "path": "/data/gather.sh", "content": GATHER},
            {"name": "tables", "path": "/data/tables", "url": tables, "type": "DIRECTORY"},
        ],
        outputs=[{"name": "table", "path": "/results/table.tsv", "url": table}],
    )


def broken_task(image: str, fastq: str, table: str) -> dict[str, Any]:
    """Fails on purpose: one record's qualities are cut short, which the script finds (exit code 3)."""
    task = stats_task("broken", image, fastq, table)
    return {**task, "name": "stats of a broken file"}


def sleeping_task(image: str) -> dict[str, Any]:
    """Runs until somebody cancels it."""
    return _task("sleep ten minutes", image, ["/bin/sh", "-c", "echo good night; sleep 600"])
