"""A real server to measure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["Server"]


class Server:
    """`tesk serve` in the sandbox over `directory`, as a process of its own; use it in a `with`."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TESK_")},
            "TESK_STATE_DIRECTORY": str(directory / "state"),
            "TESK_SERVER_PORT": "0",
            "TESK_LOCAL_ENGINE": "sandbox",
            "TESK_LOCAL_LASTING": "false",
            **settings,
        }
        self._errors = directory / "server.log"

    def __enter__(self) -> Server:
        with self._errors.open("wb") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("tesk")), "serve"],
                env=self._environment,
                cwd=self._errors.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if "ready at" not in line:
            self.process.wait(10)
            raise RuntimeError(f"the server did not start: {self._errors.read_text()[-2000:]}")
        self.url = line.split()[-1]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def rss(self) -> float:
        """The server process's resident memory in MiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("this kernel tells no VmRSS")

    def cpu_seconds(self) -> float:
        """User and system time of the server process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
