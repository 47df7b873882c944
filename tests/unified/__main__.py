"""`python -m tests.unified [--user NAME] [pytest's arguments]`: run tests where control groups are of version 2.

Without arguments: what holds tasks to their limits, on each engine, as root and as a user to whom a control group is
delegated; two machines at a time, each with one processor. The exit code is pytest's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.unified.kernel import Kernel, NoKernel, find_kernel
from tests.venvs import ROOT

CACHE = ROOT / "build" / "unified"
AT_ONCE = 2
MEMORY = "3G"
SECONDS = 600
"""When a machine is ended, come what may."""
KEPT = ("LANG", "LC_ALL", "COLUMNS", "TERM", "TESK_TEST_MODEL_EXAMPLES")
MISSING = 77
"""The exit code that means "skipped" to make's and others' test harnesses."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What one machine runs: pytest with these arguments, as this user."""

    name: str
    arguments: Sequence[str]
    user: str = "root"


LIMITS = "tests/behaviour/test_limits.py"
GROUPS = "tests/backends/test_cgroups.py"
HELD = "(memory or processors or bomb or daemons)"
"""What of the limits the kernel's groups hold; the rest is the same with either version."""

MACHINES = (
    Machine("docker", (LIMITS, "-m", "slow or not slow", "-k", f"docker and not shared and {HELD}")),
    Machine("sandbox", (GROUPS, "tests/backends/test_sandbox.py", LIMITS, "-k", f"backends or sandbox and {HELD}")),
    Machine("podman", (LIMITS, "-k", f"podman and not shared and {HELD}")),
    Machine("user", (GROUPS, LIMITS, "-k", f"backends or sandbox and {HELD}"), "nobody"),
)
"""The slowest first."""


def main() -> int:
    """The worst exit code of all machines."""
    parser = argparse.ArgumentParser(prog="python -m tests.unified", description=__doc__, allow_abbrev=False)
    parser.add_argument("--user", default="root", help="whose tests they are; only with pytest's arguments")
    options, arguments = parser.parse_known_args()
    machines = (Machine("tests", arguments, options.user),) if arguments else MACHINES
    try:
        kernel = find_kernel(CACHE)
    except NoKernel as error:
        print(f"tests.unified: {error}", file=sys.stderr)
        return MISSING
    _allow_many_files()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return max(pool.map(lambda one: _run(one, kernel, alone=len(machines) == 1), machines))


def _allow_many_files() -> None:
    """The kernel holds each file that it has opened, as long as it knows it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _run(machine: Machine, kernel: Kernel, *, alone: bool) -> int:
    """One machine from its start to its end; what it says is shown at once, or in one piece where others run too."""
    directory = CACHE / machine.name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "order.json").write_text(json.dumps(_order(machine, kernel)))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tesk-uml-", dir="/tmp") as own, (directory / "output").open("wb") as kept:
        ended = _start(kernel, directory, Path(own), None if alone else kept)
    code = _code(directory)
    if not alone:
        sys.stdout.write((directory / "output").read_text(errors="replace"))
    if code is None:
        said = (directory / "console").read_text(errors="replace").strip()
        print(f"{ended}; the kernel's last words: {said[-2000:]}", file=sys.stderr)
    print(f"== {machine.name}: pytest ended with {code} after {time.monotonic() - began:.0f} s", flush=True)
    return 1 if code is None else code


def _order(machine: Machine, kernel: Kernel) -> dict[str, object]:
    pytest = (sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider")
    shown = {
        "COLUMNS": str(shutil.get_terminal_size().columns),
        "PY_COLORS": str(int(sys.stdout.isatty())),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {
        "command": (*pytest, *machine.arguments),
        "user": machine.user,
        "directory": str(ROOT),
        "environment": shown | {one: os.environ[one] for one in KEPT if one in os.environ},
        "modules": str(kernel.modules),
    }


def _start(kernel: Kernel, directory: Path, own: Path, output: BinaryIO | None) -> str:
    """Run the kernel to its end, which is told in a few words; the tests' output goes to `output`."""
    command = [
        str(kernel.program),
        f"mem={MEMORY}",
        f"uml_dir={own}/",
        *("rootfstype=hostfs", "rootflags=/", "ro", "quiet", "loglevel=1"),
        *("con=null", "con0=null,fd:2", "ssl=null", "ssl0=null,fd:1"),
        f"init={sys.executable}",
        *("--", str(Path(__file__).with_name("inside.py")), str(directory)),
    ]
    with (directory / "console").open("wb") as console:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=console, start_new_session=True
        )
        try:
            return f"the machine ended with {process.wait(SECONDS)}"
        except subprocess.TimeoutExpired:
            return f"the machine did not end in {SECONDS} s"
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the kernel, and what it runs, if it still does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _code(directory: Path) -> int | None:
    """pytest's exit code; None where the machine ended before that was known."""
    try:
        return int((directory / "code").read_text())
    except (FileNotFoundError, ValueError):
        return None


sys.exit(main())
