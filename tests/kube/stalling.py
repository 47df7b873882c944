"""A web server that begins every answer and never ends it, and takes nothing that it is sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

__all__ = ["stalling"]

_HEAD = b'HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\netag: "one"\r\n\r\n'
_LINE = 0.2


@contextlib.contextmanager
def stalling(host: str) -> Iterator[str]:
    """The URL of such a server at the address `host`: a GET gets a byte five times a second, a PUT no answer."""
    listener = socket.create_server((host, 0))
    listener.settimeout(_LINE)
    ending = threading.Event()
    threads: list[threading.Thread] = []

    def listen() -> None:
        while not ending.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=answer, args=(connection,), daemon=True))
                threads[-1].start()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            if connection.recv(65536).startswith(b"PUT"):
                ending.wait()
                return
            connection.sendall(_HEAD)
            while not ending.wait(_LINE):
                connection.sendall(b"x")

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        ending.set()
        for one in (thread, *threads):
            one.join(30)
        listener.close()
