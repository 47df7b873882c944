"""`python -m tests.ftp_server DIRECTORY [--lacks COMMAND…]`: a real FTP server on a free port, which it prints.

A program, since pyftpdlib stands on modules that warn when they are imported. Besides what it cannot do, a file
`faults.json` beside the directory says what it does wrong next: a list of {command, after, reply, times}, see `Fault`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS, FilesystemError
from pyftpdlib.handlers import DTPHandler, FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

ALL = "elradfmwMT"


class _Faults:
    """What is to go wrong, used up one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def next(self, *, command: str = "", after: int = 0) -> dict[str, Any] | None:
        """The first fault for `command`, or of those that begin when `after` bytes were carried."""
        try:
            faults = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        for one in faults:
            fits = one["command"] == command if command else after >= one.get("after", 1 << 62)
            if fits and one.get("times", 1) > 0:
                one["times"] = one.get("times", 1) - 1
                self._path.write_text(json.dumps(faults))
                return dict(one)
        return None


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--lacks", nargs="*", default=[])
    parser.add_argument("--no-renaming-over", action="store_true")
    parser.add_argument("--no-renaming", action="store_true")
    asked = parser.parse_args()
    known = {name: one for name, one in FTPHandler.proto_cmds.items() if name not in asked.lacks}
    faults = _Faults(asked.directory.parent / "faults.json")
    log = asked.directory.parent / "commands"

    class Transfer(DTPHandler):  # type: ignore[misc]
        def recv(self, size: int) -> bytes:
            block: bytes = super().recv(size)
            self._cut(self.tot_bytes_received)
            return block

        def send(self, data: bytes) -> int:
            count: int = super().send(data)
            self._cut(self.tot_bytes_sent)
            return count

        def _cut(self, carried: int) -> None:
            fault = faults.next(after=carried)
            if fault is None:
                return
            if fault.get("stall"):
                self.ioloop.call_later(30, self.close)
                self.ioloop.unregister(self._fileno)
                return
            self.cmd_channel.close()

    class Disk(AbstractedFS):  # type: ignore[misc]
        def rename(self, source: str, target: str) -> None:
            if asked.no_renaming or (asked.no_renaming_over and os.path.exists(target)):
                raise FilesystemError("Renaming is not for you")
            super().rename(source, target)

    class Handler(FTPHandler):  # type: ignore[misc]
        dtp_handler = Transfer
        abstracted_fs = Disk
        authorizer = DummyAuthorizer()
        auth_failed_timeout = 0
        use_sendfile = False  # it would carry bytes past `Transfer.send`
        proto_cmds = known

        def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
            with log.open("a") as out:
                print(cmd, arg, file=out, flush=True)
            fault = faults.next(command=cmd)
            if fault is None:
                super().pre_process_command(line, cmd, arg)
            elif fault.get("reply"):
                self.respond(fault["reply"])
            else:
                self.close()

    Handler.authorizer.add_anonymous(str(asked.directory), perm=ALL)
    Handler.authorizer.add_user("me", "p@ss/word", str(asked.directory), perm=ALL)
    server = ThreadedFTPServer((asked.host, 0), Handler)
    server.max_cons_per_ip = 32
    print(server.address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
