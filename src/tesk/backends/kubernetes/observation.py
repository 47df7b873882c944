"""What is to be known of one step's Job, apart from how Kubernetes says it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Ended", "Lost", "Observation", "Waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a step does not run yet.

    `sentence` is a clause that reads after `executor 0 waits: `. `curable`: waiting alone can end it (a busy cluster,
    a quota in use, a suspended Job), so that `queue_timeout` bounds it; anything else is bounded by `start_timeout`.
    `usual`: every step passes through it, and nobody need hear of it.
    """

    sentence: str
    curable: bool
    usual: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a step's main container, after which its Job tries nothing more.

    `exit_code` is None when there is none: an init container failed, the Job gave up, or nobody saw the container's
    end; `problem` then says so. `start` is None when it never ran. Times are RFC 3339 in UTC. `reason` is Kubernetes'
    word: Completed, Error, OOMKilled, StartError, DeadlineExceeded, Evicted, InitContainerFailed, BackoffLimitExceeded;
    `message` is the container's termination message. `problem` is a clause where the exit code alone does not tell what
    happened.
    """

    exit_code: int | None
    start: str | None
    end: str | None
    reason: str
    message: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """A step's work is gone through no fault of its own; `sentence` is a clause that reads alone.

    `preempted`: the system reclaimed its place (`losses.Taken`). `may_run`: the pod may still run and write; no new
    attempt must start before it is gone.
    """

    sentence: str
    preempted: bool = False
    may_run: bool = False

    @property
    def waiting(self) -> Waiting:
        """What a step waits for while this may still run."""
        return Waiting(f"{self.sentence}, and it may still run", curable=True)


@dataclass(frozen=True, slots=True)
class Observation:
    """One step now.

    At most one of `ended`, `waiting` and `lost` is given. While the container runs all three are None, except that
    `waiting` tells of a node that does not answer. `scheduled`: a pod of it has a node. `started`: when the newest
    pod's main container last started (RFC 3339), once it has.
    """

    scheduled: bool = False
    started: str | None = None
    ended: Ended | None = None
    waiting: Waiting | None = None
    lost: Lost | None = None
