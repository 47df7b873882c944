"""A web server over a directory, as quick as the kernel: GET by sendfile, PUT into a file. A process of its own."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["FileServer"]

_BLOCK = 1 << 20


class FileServer:
    """A server over `directory`, use it in a `with`; `url` is its address without a slash at its end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> FileServer:
        command = [sys.executable, "-m", "bench.file_server", str(self._directory)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        with open(f"{os.getcwd()}{self.path}", "rb") as file:
            self.send_response(200)
            self.send_header("content-length", str(os.fstat(file.fileno()).st_size))
            self.send_header("etag", '"one"')
            self.end_headers()
            self.connection.sendfile(file)

    def do_PUT(self) -> None:
        rest = int(self.headers["content-length"])
        block = memoryview(bytearray(_BLOCK))
        with open(f"{os.getcwd()}{self.path}", "wb", buffering=0) as file:
            while rest:
                count = self.rfile.readinto(block[: min(rest, _BLOCK)])  # type: ignore[attr-defined]
                if not count:
                    raise ConnectionError
                file.write(block[:count])
                rest -= count
        self.send_response(201)
        self.send_header("content-length", "0")
        self.end_headers()


def _serve(directory: str) -> None:
    os.chdir(directory)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])
