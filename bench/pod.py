"""What the taskmaster of layout `pod` costs on this machine, without a cluster: `python -m bench taskmaster`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.backends.kubernetes.pod_processes import Pod, shell
from tests.launcher.compiler import build_launcher

from bench.figures import Figure
from tesk.plan.model import Transfer

__all__ = ["taskmaster_start"]

ROUNDS = 9


def taskmaster_start() -> list[Figure]:
    """From the start of its process to the first request for an input, and its memory while an executor runs.

    In turns with an empty Python process.
    """
    launcher = build_launcher()
    times, used, memory, bare = [], [], [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name, _source() as source:
            begun = time.perf_counter()
            inputs = (Transfer("/data/in", "FILE", url="s3://bench/in"),)
            plan = shell("touch data/ran; exec sleep 60", inputs=inputs)
            endpoint = f"http://127.0.0.1:{source.server_port}"
            pod = Pod(Path(name), plan, launcher, s3_endpoint=endpoint, s3_region="here", s3_anonymous=True)
            with pod.processes:
                source.asked.wait(20)
                times.append(source.at - begun)
                used.append(source.busy(pod.taskmaster.pid))
                source.answer.set()
                pod.executor(0)
                while not (pod.scratch / "data/ran").exists():
                    time.sleep(0.01)
                memory.append(_resident(pod.taskmaster.pid))
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - begun)
    beside = f"python -c pass {statistics.median(bare):.3f} s"
    return [
        Figure("a pod's taskmaster, start to first input asked for", statistics.median(times), "s", 0.2, beside=beside),
        Figure("  : processor time until then", statistics.median(used), "s", 0.2),
        Figure("  : memory while an executor runs", max(memory), "MiB", 40.0),
    ]


class _Source(ThreadingHTTPServer):
    """An S3 server with one object, that answers once the processes that ask have been looked at."""

    daemon_threads = True
    at = 0.0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked, self.answer = threading.Event(), threading.Event()

    def busy(self, pid: int) -> float:
        """Processor seconds of the process and its children until now."""
        ticks = 0
        for one in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


class _Handler(BaseHTTPRequestHandler):
    server: _Source

    def do_GET(self) -> None:
        if not self.server.asked.is_set():
            self.server.at = time.perf_counter()
            self.server.asked.set()
        self.server.answer.wait(20)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(b"bytes")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _source() -> Iterator[_Source]:
    with _Source() as source:
        thread = threading.Thread(target=source.serve_forever, daemon=True)
        thread.start()
        try:
            yield source
        finally:
            source.answer.set()
            source.shutdown()
            thread.join()


def _resident(pid: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024
