"""Stores with many tasks, written straight into the SQLite file: each with name, tags, a body of 1 kB and a log."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from tesk.plan.site import Site
from tesk.server.tasks import Tasks
from tesk.store import Store, encode_log
from tesk.store.database import SqliteDatabase
from tesk.store.migrate import prepare
from tesk.store.shown import fragment
from tesk.taskmaster.report import ExecutorEnd, OutputFile, Report
from tesk.tes.states import State

__all__ = ["STEPS", "body", "remove_after", "seeded", "state_of", "tags_of", "task_id", "task_name"]

STEPS = [
    f"NFCORE_{pipeline}:{step}"
    for pipeline in ("RNASEQ", "SAREK")
    for step in ("FASTQC", "TRIMGALORE", "ALIGN", "SORT", "INDEX", "STATS", "MARKDUP", "COUNT", "REPORT", "MULTIQC")
]
_BEGIN = 1_767_225_600
"""When the first task was created: 2026-01-01, in seconds since 1970."""

_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CHUNK = 20_000


def task_id(seq: int) -> str:
    """The id of a seeded task: as scattered as real ones are."""
    number = seq * 0x9E3779B97F4A7C15 % 36**13
    letters = []
    for _ in range(13):
        number, digit = divmod(number, 36)
        letters.append(_LETTERS[digit])
    return "task-" + "".join(letters)


def task_name(seq: int) -> str:
    """As Nextflow names its tasks; half of them begin with NFCORE_RNASEQ, one of twenty with a whole step."""
    return f"{STEPS[seq % 20]} (sample_{seq:07})"


def tags_of(seq: int) -> dict[str, str]:
    """`engine` has two values (4 : 1), `project` fifty, `sample` one for each task; each 500th task has `held`."""
    tags = {
        "engine": "nextflow" if seq % 5 else "snakemake",
        "project": f"project-{seq * 7 // 10 % 50:02}",
        "sample": f"sample_{seq:07}",
    }
    return tags if seq % 500 else {**tags, "held": "yes"}


def state_of(seq: int) -> State:
    """COMPLETE but for 2 % EXECUTOR_ERROR, 0.5 % CANCELED and 0.1 % SYSTEM_ERROR."""
    if seq % 1000 == 7:
        return State.SYSTEM_ERROR
    if seq % 200 == 11:
        return State.CANCELED
    return State.EXECUTOR_ERROR if seq % 50 == 3 else State.COMPLETE


def body(seq: int) -> dict[str, Any]:
    """A task as a workflow engine sends it, about 1 kB of JSON."""
    step = STEPS[seq % 20].rpartition(":")[2].lower()
    work = f"s3://bucket/work/{step}/{seq:07}"
    return {
        "name": task_name(seq),
        "tags": tags_of(seq),
        "resources": {"cpu_cores": 1, "ram_gb": 0.5, "disk_gb": 1},
        "inputs": [
            {"url": f"{work}/.command.{name}", "path": f"/work/.command.{name}", "type": "FILE"}
            for name in ("sh", "run")
        ]
        + [{"url": f"s3://bucket/data/sample_{seq:07}_1.fastq.gz", "path": "/work/reads_1.fastq.gz", "type": "FILE"}],
        "outputs": [
            {"url": f"{work}/{name}", "path": f"/work/{name}", "type": "FILE"}
            for name in (".exitcode", ".command.out", ".command.err", "result.bam")
        ],
        "executors": [
            {"image": f"quay.io/biocontainers/{step}:1.0", "command": ["bash", ".command.run"], "workdir": "/work"}
        ],
    }


def seeded(directory: Path, count: int) -> Path:
    """A store with `count` tasks, all ended, with `seq` 1 to `count`; made unless it is there, of this schema."""
    database = SqliteDatabase(directory / f"tasks-{count}-{_fingerprint(directory)}.db")
    path = Path(database.place)
    if path.exists():
        remove_after(path, count)
        return path
    for old in directory.glob(f"tasks-{count}-*"):
        old.unlink()
    part = SqliteDatabase(path.with_suffix(".part"))
    prepare(part)
    with closing(sqlite3.connect(part.place, isolation_level=None)) as connection:
        _fill(connection, count)
    os.replace(part.place, path)
    return path


def remove_after(path: Path, seq: int) -> None:
    """Remove what a measurement created."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("DELETE FROM tasks WHERE seq > ?", (seq,))
        connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'tasks'", (seq,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fingerprint(directory: Path) -> str:
    """Of the schema, of what is written into it and of this module: a store made by another is made again."""
    probe = SqliteDatabase(directory / "probe.db")
    Path(probe.place).unlink(missing_ok=True)
    prepare(probe)
    with closing(sqlite3.connect(probe.place)) as connection:
        schema = repr(connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall())
    Path(probe.place).unlink()
    made = schema + _Rows().sample
    return hashlib.sha256(made.encode() + Path(__file__).read_bytes()).hexdigest()[:12]


def _fill(connection: sqlite3.Connection, count: int) -> None:
    """Rows first, indexes afterwards: they are then sorted once."""
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-200000")
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > ''").fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    writer = _Rows()
    for first in range(1, count + 1, _CHUNK):
        writer.write(connection, range(first, min(first + _CHUNK, count + 1)))
    for _, sql in indexes:
        connection.execute(sql)
    connection.execute("PRAGMA journal_mode=WAL")


class _Rows:
    """Writes the rows of tasks; what `Tasks` makes of one task of each step is the template for the others."""

    def __init__(self) -> None:
        tasks = Tasks(cast(Store, None), Site(), new_id=lambda: "unused", clock=lambda: "@TIME@")
        self._bodies: list[tuple[bytes, bytes]] = []
        for seq in range(20, 40):
            new = tasks.prepare(json.dumps(body(seq)).encode())
            self._bodies.append((_template(fragment(new.basic), seq), _template(new.plan, seq)))
        self._logs = {state: _log(state) for state in State if state.terminal}
        self.sample = repr((self._bodies, self._logs))
        """What would be written for all of them."""

    def write(self, connection: sqlite3.Connection, seqs: Sequence[int]) -> None:
        """In one transaction."""
        tasks: list[tuple[Any, ...]] = []
        bodies: list[tuple[Any, ...]] = []
        attempts: list[tuple[Any, ...]] = []
        tags: list[tuple[Any, ...]] = []
        for seq in seqs:
            state = state_of(seq)
            began = _BEGIN + 7 * seq
            created = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(began))
            own = tags_of(seq)
            tasks.append((seq, task_id(seq), state.value, 1, task_name(seq), created, (began + 60) * 1000))
            values = {
                b"SEQ": b"%07d" % seq,
                b"TIME": created.encode(),
                b"PROJECT": own["project"].encode(),
                b"ENGINE": own["engine"].encode(),
            }
            basic, plan = self._bodies[seq % 20]
            bodies.append((seq, basic % values, plan % values))
            attempts.append((seq, *self._logs[state]))
            tags += [(seq, key, value) for key, value in own.items()]
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO tasks (seq, id, state, attempt, name, creation_time, ended_at) VALUES (?,?,?,?,?,?,?)", tasks
        )
        connection.executemany("INSERT INTO bodies (seq, basic, plan) VALUES (?,?,?)", bodies)
        connection.executemany("INSERT INTO attempts (seq, attempt, log_basic, log_full) VALUES (?,1,?,?)", attempts)
        connection.executemany("INSERT INTO tags (seq, key, value) VALUES (?,?,?)", tags)
        connection.execute("COMMIT")


def _template(encoded: bytes, seq: int) -> bytes:
    """`encoded`, a piece of task `seq`, with marks for `%` where other tasks differ."""
    own = tags_of(seq)
    marks = {
        f"{seq:07}": b"%(SEQ)b",
        own["project"]: b"%(PROJECT)b",
        own["engine"]: b"%(ENGINE)b",
        "@TIME@": b"%(TIME)b",
    }
    encoded = encoded.replace(b"%", b"%%")
    for value, mark in marks.items():
        encoded = encoded.replace(value.encode(), mark)
    return encoded


def _log(state: State) -> tuple[bytes, bytes | None]:
    began, ended = "2026-01-01T00:00:01.000Z", "2026-01-01T00:01:00.000Z"
    report = Report(
        state,
        start_time=began,
        end_time=ended,
        executors=(
            ExecutorEnd(began, ended, 0 if state is State.COMPLETE else 1, stdout="processed 1000 reads\n" * 5),
        ),
        outputs=(OutputFile("s3://bucket/work/result.bam", "/work/result.bam", 123456),),
        system_logs=() if state is State.COMPLETE else ("executor 0 ended with exit code 1",),
    )
    log = encode_log(report)
    return log.basic, log.full
