"""The demo itself: real tasks on a real server, and a check of everything that came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesk.cli.demo import fastq, work
from tesk.cli.demo.board import Board
from tesk.cli.demo.files import Files
from tesk.cli.demo.server import serving
from tesk.cli.screen import print_line
from tesk.tes.states import State

if TYPE_CHECKING:
    from tesk.client import Client, Task

__all__ = ["play", "play_elsewhere"]

_CHUNKS, _READS = 6, 2500
_PATIENCE_SECONDS, _PATIENCE_ELSEWHERE = 60.0, 600.0


def play(directory: Path, seed: int) -> list[str]:
    """Run the demo in `directory`, on a server of its own; a sentence for each thing that is not as it must be."""
    from tesk.client import Client

    files = Files(directory / "files")
    data = _make_data(files, seed)
    with serving(directory, files.directory) as url:
        print_line(f"tesk serve listens at {url}")
        with Client(url) as client:
            wrong = _Play(client, files, data).run(_PATIENCE_SECONDS)
    return [*wrong, *_leftovers(directory / "state")]


def play_elsewhere(directory: Path, seed: int, client: Client, base: str, image: str) -> list[str]:
    """The same on a server that is there already, with the tasks' files below the URL `base`."""
    files = Files(directory / "files", base)
    data = _make_data(files, seed)
    print_line(f"tasks find them, and leave what they make, at {base}")
    return _Play(client, files, data, image).run(_PATIENCE_ELSEWHERE)


@dataclass(frozen=True)
class _Data:
    chunks: list[fastq.Chunk]
    broken: str


def _make_data(files: Files, seed: int) -> _Data:
    for name in ("reads", "tables"):
        (files.directory / name).mkdir(parents=True)
    reads = files.directory / "reads"
    chunks = fastq.make_chunks(reads, seed, _CHUNKS, _READS)
    fastq.break_record(chunks[0], reads / "broken.fastq", work.BROKEN_RECORD)
    print_line(f"{_CHUNKS} FASTQ files of {_READS} reads each, from seed {seed}, are in {reads}")
    found = _Data(chunks, "reads/broken.fastq")
    files.send([*(f"reads/{one.path.name}" for one in chunks), found.broken])
    return found


@dataclass
class _Play:
    client: Client
    files: Files
    data: _Data
    image: str = work.IMAGE
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, patience: float) -> list[str]:
        """Run the tasks and show the table; a sentence for each thing that is wrong."""
        with Board() as board:
            self._run(board, patience)
        wrong = list(self._wrong())
        table = self.files.directory / "table.tsv"
        print_line("")
        print_line(table.read_text() if table.exists() else "there is no table\n")
        return wrong

    def _run(self, board: Board, patience: float) -> None:
        """Scatter; meanwhile one task fails and one is cancelled; then gather."""
        url, image = self.files.url, self.image
        sleeping = self._send(board, "sleeping", work.sleeping_task(image))
        scatter = []
        for one in self.data.chunks:
            task = work.stats_task(one.name, image, url(f"reads/{one.path.name}"), url(f"tables/{one.name}.tsv"))
            scatter.append(self._send(board, one.name, task))
        broken = self._send(board, "broken", work.broken_task(image, url(self.data.broken), url("broken.tsv")))

        def changed(task_id: str, state: str) -> None:
            board.changed(task_id, state)
            if task_id == sleeping and state == State.RUNNING:
                self.client.cancel(sleeping)

        self.client.wait([*scatter, broken, sleeping], changed=changed, timeout=patience, poll=0.1)
        gather = self._send(board, "gather", work.gather_task(image, url("tables"), url("table.tsv")))
        self.client.wait([gather], changed=board.changed, timeout=patience, poll=0.1)

    def _send(self, board: Board, key: str, task: dict[str, Any]) -> str:
        task_id = self.ids[key] = self.client.create(task)
        board.name(task_id, task["name"])
        return task_id

    def _wrong(self) -> Iterator[str]:
        """Whether each task ended as it must, said why, and delivered what Python computes too."""
        expected = {"broken": State.EXECUTOR_ERROR, "sleeping": State.CANCELED}
        tasks = {key: self.client.get(task_id, "FULL") for key, task_id in self.ids.items()}
        for key, task in tasks.items():
            state = expected.get(key, State.COMPLETE)
            if task.get("state") != state:
                why = "; ".join(_said(task))
                yield f"{task.get('name')} ended {task.get('state')} instead of {state}: {why}"
        yield from _wrong_failure(tasks["broken"])
        if tasks["gather"].get("state") == State.COMPLETE:
            self.files.fetch("table.tsv")
        table, right = self.files.directory / "table.tsv", fastq.table(self.data.chunks)
        if not table.exists() or table.read_text() != right:
            yield f"{self.files.url('table.tsv')} is not what Python computes:\n{right}"


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
