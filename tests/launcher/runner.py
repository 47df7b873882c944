"""One command through the launcher, and what came of it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesk.backends.kubernetes.streams import LauncherEnd, read_end, read_record, unframe

__all__ = ["ODD", "Ran", "Runner", "read_log"]

ODD = [
    "two words",
    "",
    "'single'",
    '"double"',
    "$HOME $(id) `id`",
    "$(VAR)",
    "back\\slash",
    "a\nb",
    "ü",
    "-rf",
    "*",
    "--",
]
"""Arguments that must arrive as they are."""

LOG_BYTES = 65536


@dataclass(frozen=True)
class Ran:
    """The launcher's exit code, its log, the streams in it, the excerpts of its record, how it says that it ended."""

    code: int
    log: bytes
    stdout: bytes
    stderr: bytes
    kept: tuple[str, str] | None
    end: LauncherEnd | None


def read_log(code: int, log: bytes, message: str, log_bytes: int = LOG_BYTES) -> Ran:
    """What the launcher's log and its termination message say."""
    return Ran(
        code, log, unframe(log, "stdout"), unframe(log, "stderr"), read_record(log, log_bytes), read_end(message)
    )


@dataclass
class Runner:
    """Runs the launcher on this machine, with no container around it."""

    launcher: Path
    directory: Path

    @property
    def end(self) -> Path:
        """Where the launcher writes how the command ended."""
        return self.directory / "end"

    def argv(self, command: Sequence[str | bytes | Path], **options: object) -> list[Any]:
        """The launcher's command line; `log_bytes=5` is `--log-bytes 5`."""
        given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return [self.launcher, "--end", self.end, *given, "--", *command]

    def start(
        self, *command: str | Path, popen: dict[str, Any] | None = None, **options: object
    ) -> subprocess.Popen[bytes]:
        """A launcher whose log is a pipe."""
        settings = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, **(popen or {})}
        return subprocess.Popen(self.argv(command, **options), **settings)

    def __call__(
        self,
        *command: str | bytes | Path,
        popen: dict[str, Any] | None = None,
        log_bytes: int = LOG_BYTES,
        **options: object,
    ) -> Ran:
        """The command to its end."""
        argv = self.argv(command, log_bytes=log_bytes, **options)
        settings = {"stdin": subprocess.DEVNULL, **(popen or {})}
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=False, **settings)
        message = self.end.read_text() if self.end.exists() else ""
        return read_log(done.returncode, done.stdout, message, log_bytes)
