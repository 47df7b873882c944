"""The demo itself: real tasks on a real server, and a check of everything that came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesk.cli.demo import fastq, work
from tesk.cli.demo.board import Board
from tesk.cli.demo.server import serving
from tesk.cli.screen import print_line
from tesk.tes.states import State

if TYPE_CHECKING:
    from tesk.client import Client, Task

__all__ = ["play"]

_CHUNKS, _READS = 6, 2500
_PATIENCE_SECONDS = 60.0


def play(directory: Path, seed: int) -> list[str]:
    """Run the demo in `directory`; a sentence for each thing that is not as it must be."""
    from tesk.client import Client

    files = directory / "files"
    for name in ("reads", "tables"):
        (files / name).mkdir(parents=True)
    reads, table = files / "reads", files / "table.tsv"
    chunks = fastq.make_chunks(reads, seed, _CHUNKS, _READS)
    broken = reads / "broken.fastq"
    fastq.break_record(chunks[0], broken, work.BROKEN_RECORD)
    print_line(f"{_CHUNKS} FASTQ files of {_READS} reads each, from seed {seed}, are in {reads}")
    with serving(directory, files) as url:
        print_line(f"tesk serve listens at {url}")
        with Client(url) as client:
            found = _Play(client, files, chunks, broken)
            with Board() as board:
                found.run(board)
            wrong = list(found.wrong())
    wrong += _leftovers(directory / "state")
    print_line("")
    print_line(table.read_text() if table.exists() else "there is no table\n")
    return wrong


@dataclass
class _Play:
    client: Client
    files: Path
    chunks: list[fastq.Chunk]
    broken: Path
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, board: Board) -> None:
        """Scatter; meanwhile one task fails and one is cancelled; then gather."""
        tables = self.files / "tables"
        sleeping = self._send(board, "sleeping", work.sleeping_task())
        scatter = [
            self._send(board, one.name, work.stats_task(one.name, one.path, tables / f"{one.name}.tsv"))
            for one in self.chunks
        ]
        broken = self._send(board, "broken", work.broken_task(self.broken, self.files / "broken.tsv"))

        def changed(task_id: str, state: str) -> None:
            board.changed(task_id, state)
            if task_id == sleeping and state == State.RUNNING:
                self.client.cancel(sleeping)

        self.client.wait([*scatter, broken, sleeping], changed=changed, timeout=_PATIENCE_SECONDS, poll=0.1)
        gather = self._send(board, "gather", work.gather_task(tables, self.files / "table.tsv"))
        self.client.wait([gather], changed=board.changed, timeout=_PATIENCE_SECONDS, poll=0.1)

    def _send(self, board: Board, key: str, task: dict[str, Any]) -> str:
        task_id = self.ids[key] = self.client.create(task)
        board.name(task_id, task["name"])
        return task_id

    def wrong(self) -> Iterator[str]:
        """Whether each task ended as it must, said why, and delivered what Python computes too."""
        expected = {"broken": State.EXECUTOR_ERROR, "sleeping": State.CANCELED}
        tasks = {key: self.client.get(task_id, "FULL") for key, task_id in self.ids.items()}
        for key, task in tasks.items():
            state = expected.get(key, State.COMPLETE)
            if task.get("state") != state:
                why = "; ".join(_said(task))
                yield f"{task.get('name')} ended {task.get('state')} instead of {state}: {why}"
        yield from _wrong_failure(tasks["broken"])
        table = self.files / "table.tsv"
        if not table.exists() or table.read_text() != fastq.table(self.chunks):
            yield f"{table} is not what Python computes:\n{fastq.table(self.chunks)}"


def _said(task: Task) -> list[str]:
    return (task.get("logs") or [{}])[-1].get("system_logs") or ["no reason given"]


def _wrong_failure(task: Task) -> Iterator[str]:
    """Whether the task that fails on purpose tells its exit code, its own words and what failed."""
    logs = (task.get("logs") or [{}])[-1].get("logs") or [{}]
    if logs[-1].get("exit_code") != 3:
        yield f"{task.get('name')}: the exit code is {logs[-1].get('exit_code')} instead of 3"
    if f"record {work.BROKEN_RECORD}: " not in str(logs[-1].get("stderr")):
        yield f"{task.get('name')}: its standard error is not in its log"
    if not any("exit code 3" in one for one in _said(task)):
        yield f"{task.get('name')}: its system_logs do not say what failed"


def _leftovers(state: Path) -> Iterator[str]:
    """What finished tasks have left in the server's state directory."""
    for left in sorted((state / "attempts").glob("*")):
        yield f"{left} was left behind"
