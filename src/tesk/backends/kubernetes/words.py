"""The cluster's words in our sentences: on one line, short, without what only its programmers need."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["one_line", "plain", "pull_words", "stamp"]

LONGEST = 300

_RUNTIME = re.compile(
    r"failed to create containerd task: |failed to create shim task: |failed to start containerd task \S+: "
    r"|OCI runtime create failed: |runc create failed: |unable to start container process: "
    r"|rpc error: code = \w+ desc = |: unknown$"
)
_POD = re.compile(r' \(pod: "[^"]*", container: [^)]*\)')
_PULL = re.compile(
    r'Back-off pulling image "[^"]*"(?:: )?|ErrImagePull: |Failed to pull image "[^"]*": '
    r'|failed to pull and unpack image "[^"]*": |failed to resolve reference "[^"]*": |failed to resolve image: '
    r'|failed to do request: |(?:Head|Get) "[^"]*": |pulling from host \S+ failed with status code \[[^]]*\]: '
)


def one_line(text: str, longest: int = LONGEST) -> str:
    """`text` on one line of at most `longest` characters, without a full stop at its end."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def plain(message: str | None) -> str:
    """The kubelet's or the container runtime's message without the layers that it passed through."""
    return one_line(_POD.sub("", _RUNTIME.sub("", message or "")))


def pull_words(message: str | None, image: str) -> str:
    """What the registry said, out of the message of a failed pull of `image`; empty when the message holds no cause."""
    words = plain(_PULL.sub("", message or ""))
    return words.removeprefix(f"{image}: ")


def stamp(time: datetime) -> str:
    """A time of the API server as RFC 3339 in UTC with milliseconds, as all times of a report."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
