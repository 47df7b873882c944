"""The command as people call it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tesk

SOURCE = str(Path(tesk.__file__).parent.parent)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Result]


def environment(**changes: str) -> dict[str, str]:
    """Ours, without any setting of TESK, and with the sources under test."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TESK_", "TES_", "FUNNEL_"))}
    path = os.pathsep.join([SOURCE, *filter(None, [kept.get("PYTHONPATH")])])
    # no file of profiles of whoever runs the tests
    return {**kept, "PYTHONPATH": path, "XDG_CONFIG_HOME": "/nonexistent", **changes}


def start(
    *args: object, cwd: Path | None = None, tmpdir: Path | None = None, before: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Begin `tesk ARGS` as a process of its own; `before` is a program that starts it."""
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tesk", *map(str, args)],
        cwd=cwd,
        env=environment(**({} if tmpdir is None else {"TMPDIR": str(tmpdir)})),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run_tesk(*args: object, cwd: Path | None = None, before: Sequence[str] = ()) -> Result:
    """Run `tesk ARGS` as a process of its own."""
    with start(*args, cwd=cwd, before=before) as process:
        out, err = process.communicate(timeout=90)
        return Result(process.returncode, out, err)


@dataclass(frozen=True)
class Server:
    """A server of the tests, and the directory whose files tasks may name."""

    url: str
    files: Path
