"""A PostgreSQL of the tests' own: Debian's programs, a temporary directory, a Unix socket and no port.

A `conftest.py` takes part with `from tests.postgres import postgresql  # noqa: F401`.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["PostgresServer", "postgresql"]

_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "50",
    "deadlock_timeout": "100ms",
}


@dataclass
class PostgresServer:
    """A server that runs; `directory` holds its socket."""

    directory: Path
    programs: Path
    user: str | None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the server's user; its output is in the error when it fails."""
        result = subprocess.run(
            [self.programs / program, *arguments],
            user=self.user,
            group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
            extra_groups=None if self.user is None else [],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        if result.returncode:
            raise RuntimeError(f"{program} failed: {result.stdout}")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = " ".join(f"-c {key}='{value}'" for key, value in _SETTINGS.items())
        # pg_ctl's own output would stay open in the server.
        log = str(self.directory / "log")
        data = str(self.directory / "data")
        self.run("pg_ctl", "start", "-w", "-s", "-D", data, "-l", log, "-o", f"-k {self.directory} {settings}")

    def stop(self, *, for_good: bool = False) -> None:
        """Stop the server; its connections end at once. `for_good`, it does not write what it still has in memory."""
        mode = "immediate" if for_good else "fast"
        self.run("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", str(self.directory / "data"))

    def new_database(self) -> str:
        """Make an empty place for tables (a schema: making whole databases takes most of a test's time); its URL."""
        name = f"test_{next(self._numbers)}"
        self.run("psql", "-q", "-h", str(self.directory), "-U", "tesk", "-c", f"CREATE SCHEMA {name}", "postgres")
        return f"postgresql://tesk@/postgres?host={self.directory}&options=-csearch_path%3D{name}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole run; skips where PostgreSQL is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # Not pytest's tmp_path: a socket's path has at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="tesk-pg-", dir="/tmp"))
    server = PostgresServer(directory, programs, _user())
    try:
        if server.user is not None:
            shutil.chown(directory, server.user)
        data = str(directory / "data")
        server.run("initdb", "-D", data, "-U", "tesk", "-A", "trust", "-E", "UTF8", "--no-sync", *_locale(programs))
        server.start()
        yield server
        server.stop(for_good=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _user() -> str | None:
    """Who the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    known = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _locale(programs: Path) -> list[str]:
    """A locale that does not sort bytewise, so that a column without its own collation is found out."""
    version = subprocess.run([programs / "postgres", "-V"], capture_output=True, text=True, check=True).stdout
    if int(version.split()[2].split(".")[0]) < 15:
        return ["--locale=C.UTF-8"]
    return ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]


def _programs() -> Path | None:
    """The directory of PostgreSQL's programs, the newest first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("pg_ctl")
    return Path(on_path).resolve().parent if on_path else None
