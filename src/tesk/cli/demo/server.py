"""The demo's own server: a real process with a configuration, a store and a state directory of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

from tesk.cli.faults import CommandError

__all__ = ["serving"]

_READY = "TESK is ready at "
_START_SECONDS = 30
_STOP_SECONDS = 15


@contextmanager
def serving(directory: Path, files: Path) -> Iterator[str]:
    """Run `tesk serve` with everything in `directory`, let tasks name what lies below `files`; its URL.

    Raises CommandError with the server's own sentence when it does not start.
    """
    import yaml

    config = directory / "tesk.yaml"
    settings = {
        "state_directory": str(directory / "state"),
        "server": {"host": "127.0.0.1", "port": 0, "access_log": False},
        "storage": {"file_roots": [str(files)]},
        "local": {"engine": "sandbox", "lasting": False},
    }
    config.write_text(yaml.safe_dump(settings))
    # what the user set for another server must not change this one
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TESK_")}
    log = directory / "server.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tesk", "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environ,
            start_new_session=True,  # a Ctrl-C is for us, who then end it in order
        )
    try:
        yield _address(process, log)
    finally:
        _stop(process)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """What the server prints once it is ready."""
    lines: Queue[bytes] = Queue()
    out = process.stdout
    assert out is not None

    def read() -> None:
        with out:
            for line in out:
                lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    try:
        line = lines.get(timeout=_START_SECONDS).decode()
    except Empty:
        raise CommandError(f"the server was not ready after {_START_SECONDS} s; its log is {log}") from None
    if not line.startswith(_READY):
        said = log.read_text(errors="replace").strip().splitlines()
        reason = said[-1].removeprefix("tesk: ") if said else "it says nothing"
        raise CommandError(f"the server did not start: {reason}")
    return line.removeprefix(_READY).strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
