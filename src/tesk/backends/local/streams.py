"""What an executor writes to stdout and stderr, kept in files that never grow beyond a bound.

A stream is a row of segments `<name>.0`, `<name>.1`, … of at most SEGMENT bytes each. The first and the last two are
kept, the rest is removed as it comes, so that head and tail are there however much was written. Whoever writes only
appends; readers need no lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tesk.backends.excerpt import gap, joined

__all__ = ["SEGMENT", "Sink", "StreamReader", "StreamWriter", "excerpt", "redirect_flags", "unkept"]

SEGMENT = 1 << 20
TAIL_SEGMENTS = 2


def redirect_flags(stdout: str | None, stderr: str | None) -> int:
    """How the files that an executor's streams go to are opened for writing.

    As the shell's `>`: Cromwell's script writes its stdout with tee into the very file that the executor's stdout
    goes to, and what came twice lands in one place. Where both streams name one file, neither may overwrite the other.
    """
    return os.O_WRONLY | (os.O_APPEND if stdout == stderr else 0)


class StreamWriter:
    """Appends to the stream `name` in the directory open as `directory` (a file descriptor)."""

    def __init__(self, directory: int, name: str) -> None:
        self._directory = directory
        self._name = name
        self._number = -1
        self._room = 0
        self._fd = -1

    def write(self, data: bytes) -> None:
        """Append `data`, whole."""
        view = memoryview(data)
        while view:
            if not self._room:
                self._next()
            written = os.write(self._fd, view[: self._room])
            self._room -= written
            view = view[written:]

    def close(self) -> None:
        """Let go of the file; what was written stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next(self) -> None:
        self.close()
        self._number += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(f"{self._name}.{self._number}", flags, 0o600, dir_fd=self._directory)
        self._room = SEGMENT
        old = self._number - TAIL_SEGMENTS
        if old > 0:
            os.unlink(f"{self._name}.{old}", dir_fd=self._directory)


class Sink:
    """One stream of an executor: its bounded log, and the whole of it in the task's own file, where one is named.

    Args:
        directory: a descriptor of where the log lies.
        name: "stdout" or "stderr".
        path: the task's own file in the container.
        file: the same, open.
    """

    def __init__(self, directory: int, name: str, path: str | None, file: int | None) -> None:
        self.unkept = ""
        self._name = name
        self._path = path
        self._log: StreamWriter | None = StreamWriter(directory, name)
        self._file = file

    def write(self, data: bytes) -> None:
        """Raises OSError when the task's own file cannot take `data`."""
        if self._log is not None:
            try:
                self._log.write(data)
            except OSError as error:
                self.unkept = f"its {self._name} could not be kept: {os.strerror(error.errno or 0).lower()}"
                self.close()  # a full disk: the log ends here, the task's file decides what becomes of the task
        if self._file is not None:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]

    def fault(self, error: OSError) -> str:
        """A clause about the `error` that `write` raised."""
        return f"its {self._name} could not be written to {self._path}: {error.strerror}"

    def drop(self) -> None:
        """Write to the log alone from here on."""
        self._file = None

    def close(self) -> None:
        """Let go of the log."""
        if self._log is not None:
            self._log.close()
        self._log = None


def unkept(sinks: Iterable[Sink]) -> str:
    """A clause about what is missing in the logs; empty where nothing is."""
    return "; ".join(one.unkept for one in sinks if one.unkept)


@dataclass
class StreamReader:
    """Reads the stream `name` in `directory` from its beginning, as far as it is written; may be asked again."""

    directory: str
    name: str
    position: int = 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes more, or b"" when there is nothing more now.

        Where the middle is already gone, a line in its place says how many bytes were left out.
        """
        number, offset = divmod(self.position, SEGMENT)
        data = self._segment(number, offset, size)
        if data:
            self.position += len(data)
            return data
        # The segment we are in is not written yet, or already removed: then a later one exists.
        later = next((one for one in self._numbers() if one > number), None)
        return b"" if later is None else self._skip_to(later)

    def size(self) -> int:
        """How many bytes were written so far."""
        numbers = self._numbers()
        if not numbers:
            return 0
        try:
            return numbers[-1] * SEGMENT + os.stat(f"{self.directory}/{self.name}.{numbers[-1]}").st_size
        except FileNotFoundError:
            return self.size()

    def _skip_to(self, number: int) -> bytes:
        left_out = number * SEGMENT - self.position
        self.position = number * SEGMENT
        return gap(left_out)

    def _segment(self, number: int, offset: int, size: int) -> bytes:
        try:
            with open(f"{self.directory}/{self.name}.{number}", "rb") as file:
                file.seek(offset)
                return file.read(min(size, SEGMENT - offset))
        except FileNotFoundError:
            return b""

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        prefix = self.name + "."
        return sorted(int(one[len(prefix) :]) for one in names if one.startswith(prefix))


def excerpt(directory: str, name: str, limit: int) -> str:
    """The stream as text of at most `limit` bytes: all of it, or its head and its tail with a line between.

    Bytes that are not UTF-8 are shown as U+FFFD.
    """
    reader = StreamReader(directory, name)
    size = reader.size()
    if size <= limit:
        return joined(b"".join(_all(reader, size)), b"", size)
    head = reader.read(limit // 2)
    tail_size = limit - limit // 2
    reader.position = size - tail_size
    return joined(head, b"".join(_all(reader, tail_size)), size)


def _all(reader: StreamReader, size: int) -> Iterator[bytes]:
    while size > 0 and (data := reader.read(size)):
        size -= len(data)
        yield data
