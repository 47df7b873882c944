"""What everybody sees first: the help, wrong usage, and how fast they come."""

from __future__ import annotations

import re
import resource
import subprocess
import sys

import pytest
from tests.cli.command import Call, environment

HEAVY = {"alembic", "asyncio", "httpx", "pydantic", "rich", "sqlalchemy", "starlette", "uvicorn", "yaml"}
COMMANDS = [
    "run",
    "demo",
    "serve",
    "check",
    "cleanup",
    "create",
    "get",
    "list",
    "cancel",
    "wait",
    "logs",
    "profiles",
    "config",
    "kubernetes",
    "completion",
]


def test_help_imports_nothing_heavy() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tesk", "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(re.findall(r"\| +([\w.]+)$", result.stderr, re.MULTILINE))
    assert "typer" in imported
    assert HEAVY & imported == set()


def test_help_names_every_command_and_the_exit_codes(call: Call) -> None:
    result = call("--help")
    assert result.code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", result.out, re.MULTILINE), command
    assert "3 no server answers" in " ".join(result.out.split())


@pytest.mark.parametrize("command", [*COMMANDS, "taskmaster", "filer"])
def test_every_command_explains_itself(call: Call, command: str) -> None:
    result = call(command, "--help")
    assert result.code == 0
    assert "Usage: tesk" in result.out


def test_help_takes_little_time_of_the_processor() -> None:
    def used() -> float:
        found = resource.getrusage(resource.RUSAGE_CHILDREN)
        return found.ru_utime + found.ru_stime

    took: list[float] = []
    for _ in range(3):
        before = used()
        subprocess.run([sys.executable, "-m", "tesk", "--help"], env=environment(), capture_output=True, check=True)
        took.append(used() - before)
    # 0.3 s is what a person should wait at most; the rest is for a busy machine
    assert min(took) < 0.4


def test_version_is_printed(call: Call) -> None:
    from tesk import __version__

    assert call("--version").out == f"{__version__}\n"


def test_wrong_usage_is_exit_code_2(call: Call) -> None:
    assert call("get").code == 2
    assert call("nonsense").code == 2
    assert call("list", "--state", "SLEEPING").code == 2
