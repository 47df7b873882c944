"""The taskmaster in the pod of its executors: it asks the cluster for nothing, and its log holds its reports.

It sends them to the server, too, where that can be reached; nothing waits for it.

It is process 1 of its container: when it ends, before its last report or after, every launcher ends with it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from pathlib import Path

from tesk.backends.kubernetes.mounted import PodHandout, read_pod
from tesk.backends.kubernetes.pod_steps import PodSteps
from tesk.backends.kubernetes.pushing import Pusher
from tesk.backends.kubernetes.report_lines import ReportWriter
from tesk.filer import leave_shared
from tesk.taskmaster.report import Report
from tesk.taskmaster.run import run_attempt

__all__ = ["main"]

_ENDED_BY_SIGNAL = 143


def main(attempt: Path, control: Path, scratch: Path) -> int:
    """Run the attempt handed out in the directory `attempt` to its end; the exit code, 0 once its last report is told.

    Raises ValueError when `attempt` holds none.
    """
    handout = read_pod(attempt)

    def leave(*_: object) -> None:
        # The pod is being taken away: what happens to executors from now on is no end of theirs.
        leave_shared(handout.plan, handout.storage.shared_roots)
        os._exit(_ENDED_BY_SIGNAL)

    signal.signal(signal.SIGTERM, leave)
    asyncio.run(_run(handout, control, scratch))
    return 0


async def _run(handout: PodHandout, control: Path, scratch: Path) -> None:
    writer, server = ReportWriter(), handout.server
    pusher = Pusher(server.host, server.port, server.greeting) if server is not None else None

    def tell(report: Report) -> None:
        line = writer.line(report)
        if pusher is not None:
            pusher.tell(line)
        while line:
            line = line[os.write(sys.stdout.fileno(), line) :]

    steps = PodSteps(handout, control, scratch)
    report = await run_attempt(handout.plan, steps, tell)
    tell(dataclasses.replace(report, held=steps.held))
    if pusher is not None:
        await pusher.close()
    if steps.held:  # once we end, the kubelet starts the others, and makes what they are to be shown and is not there
        await asyncio.Event().wait()
