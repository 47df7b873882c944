"""The processes of one pod in layout `pod`, with real launchers, on this machine: no cluster, no containers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.backends.kubernetes.attempts import SITE
from tests.backends.kubernetes.test_filing import attempt

from tesk.backends.kubernetes.mounted import REPORT_KEY_FILE, SCRATCH_TREE
from tesk.backends.kubernetes.names import container_name
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.report_lines import ReportReader
from tesk.plan.model import ExecutorPlan, Mount, Plan
from tesk.storage import StorageSettings
from tesk.taskmaster.report import Report

__all__ = ["SECRET", "SOON", "Pod", "shell"]

SECRET = b"k" * 32
"""What it signs its reports with."""

SOON = 20.0
PROGRAM = """
import sys
from pathlib import Path
from tesk.cli.lean import importing
with importing():
    from tesk.backends.kubernetes.pod_taskmaster import main
sys.exit(main(*map(Path, sys.argv[1:])))
"""


class Pod:
    """The processes of one pod, from when its taskmaster has made ready until `processes` is left.

    Executors find scratch under its own path, since nothing is mounted. Tasks may name what lies in `directory/files`.
    """

    def __init__(
        self, directory: Path, plan: Plan, launcher: Path, site: KubernetesOptions = SITE, **storage: Any
    ) -> None:
        self.launcher = launcher
        self.control = directory / "control"
        self.volume = directory / "volume"
        handed, files = directory / "attempt", directory / "files"
        for one in (self.control, self.volume, handed, files):
            one.mkdir(exist_ok=True)
        attempt(handed, plan, storage=StorageSettings(file_roots=(str(files),), **storage), site=site)
        (handed / REPORT_KEY_FILE).write_bytes(SECRET)
        made = [word for one in plan.mounts for word in ("--dir", f"{self.scratch}{one.path}")]
        argv = [launcher, "--hold", self.control, str(len(plan.executors)), *made]
        program = [sys.executable, "-c", PROGRAM, handed, self.control, self.scratch]
        self.processes = contextlib.ExitStack()
        self.plan = plan
        self.taskmaster = self._start([*argv, "--", *program], stdout=subprocess.PIPE)
        subprocess.run([launcher, "--await", self.control / "ready"], check=True, timeout=SOON)

    @property
    def scratch(self) -> Path:
        return self.volume / SCRATCH_TREE

    def _start(self, argv: list[Any], **options: Any) -> subprocess.Popen[bytes]:
        process = self.processes.enter_context(subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options))
        self.processes.callback(process.kill)
        return process

    def executor(self, index: int) -> subprocess.Popen[bytes]:
        """The container of one executor starts."""
        turn = self.control / container_name(index)
        argv = [self.launcher, "--end", turn.parent / f"end-{index}", "--turn", turn, "--"]
        return self._start([*argv, *self.plan.executors[index].command], cwd=self.scratch, stdout=subprocess.DEVNULL)

    def report(self) -> Report:
        """The last one, once the taskmaster has ended."""
        said, _ = self.taskmaster.communicate(timeout=SOON)
        reader = ReportReader()
        reader.feed(said)
        assert reader.newest is not None
        return reader.newest


def shell(*scripts: str, **fields: Any) -> Plan:
    """A plan with an executor for each script, all with the directory `data`."""
    executors = tuple(ExecutorPlan("any", ("sh", "-c", one)) for one in scripts)
    return Plan(executors, **{"mounts": (Mount("/data"),), "directories": ("/data",), **fields})
