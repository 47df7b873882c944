"""What the taskmaster asks of the place where it runs: in a server's process, in a pod, or beside Jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tesk.taskmaster.report import ExecutorEnd, OutputFile

if TYPE_CHECKING:
    from tesk.filer import StageOut

__all__ = [
    "AttemptLost",
    "ExecutorResult",
    "Interrupted",
    "StageInResult",
    "StageOutResult",
    "StepFailed",
    "Steps",
    "Usage",
]


class StepFailed(Exception):
    """A step could not be done; each of `sentences` tells the user what failed and where."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


class AttemptLost(Exception):
    """The attempt's work is gone through no fault of its own; the message says why.

    `preempted`: the system reclaimed the machine.
    """

    def __init__(self, why: str, *, preempted: bool = False) -> None:
        super().__init__(why)
        self.preempted = preempted


class Interrupted(Exception):
    """The one who runs the steps must end here; what there is stays, for a successor that goes on from it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What executors took of the machine; processor time in milliseconds, of all their processes."""

    peak_memory_bytes: int
    user_cpu_ms: int
    system_cpu_ms: int

    def then(self, later: Usage) -> Usage:
        """Both, one after the other."""
        return Usage(
            max(self.peak_memory_bytes, later.peak_memory_bytes),
            self.user_cpu_ms + later.user_cpu_ms,
            self.system_cpu_ms + later.system_cpu_ms,
        )

    def metadata(self) -> dict[str, str]:
        """As `tesTaskLog.metadata`, by the keys that crankshaft reads (numbers in strings)."""
        return {
            "peak_memory_bytes": str(self.peak_memory_bytes),
            "cpu_time_ms": str(self.user_cpu_ms + self.system_cpu_ms),
            "user_cpu_time_ms": str(self.user_cpu_ms),
            "system_cpu_time_ms": str(self.system_cpu_ms),
        }


@dataclass(frozen=True, slots=True)
class ExecutorResult:
    """How an executor ended; `problem` is a sentence where its exit code alone does not tell (a missing command).

    `usage` is None where the engine cannot tell.
    """

    end: ExecutorEnd
    problem: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class StageInResult:
    """How many bytes of inputs were `copied`, and how many are `mounted` where they lie."""

    copied: int = 0
    mounted: int = 0


@dataclass(frozen=True, slots=True)
class StageOutResult:
    """What was delivered, and a sentence for each output that was not there or could not be delivered.

    `notes` are sentences that change no outcome, such as a socket among the files of a directory. `directories` are the
    paths of outputs that turned out to be directories, where the task did not say. `copied` are the bytes that were
    moved: what shared storage has in its place is not.
    """

    delivered: tuple[OutputFile, ...] = ()
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    copied: int = 0

    @classmethod
    def of(cls, out: StageOut) -> StageOutResult:
        """What a filer's stage-out came to."""
        delivered = tuple(OutputFile(one.url, one.path, one.size_bytes) for one in out.delivered)
        return cls(delivered, out.missing, out.failed, out.notes, out.directories, out.copied)


class Steps(Protocol):
    """The steps of one attempt. Each may raise StepFailed or AttemptLost, and ends cleanly when cancelled.

    Steps that outlive the one who runs them may raise Interrupted, and are asked again from the first one on by the
    next: each then answers what became of it.
    """

    async def stage_in(self) -> StageInResult:
        """Make scratch and bring every input into it."""

    async def execute(self, index: int, started: Callable[[], None]) -> ExecutorResult:
        """Run executor number `index` (from 0) to its end; `started` is called when it really starts."""

    async def stage_out(self) -> StageOutResult:
        """Deliver every output that is there."""

    async def clean(self) -> None:
        """Remove whatever is left of the attempt; called whatever happened, and may be called again."""
