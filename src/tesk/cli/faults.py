"""Faults that a user can do something about, and the exit code that each stands for."""

from __future__ import annotations

import sys
from collections.abc import Iterator

__all__ = ["FAILED", "INTERRUPTED", "UNREACHABLE", "USAGE", "CommandError", "expected", "tell"]

FAILED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

_EXPECTED = (
    ("tesk.client.errors", "ClientError"),
    ("tesk.config.errors", "ConfigError"),
    ("tesk.server.listen", "CannotServe"),
)


class CommandError(Exception):
    """A command cannot go on; the message is one sentence for the user, `code` the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def expected() -> tuple[type[BaseException], ...]:
    """The exceptions that are told as sentences, without a traceback; imports nothing that was not imported yet."""
    found: list[type[BaseException]] = [CommandError, KeyboardInterrupt]
    for module, name in _EXPECTED:
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def tell(fault: BaseException) -> int:
    """Write the fault to stderr, a line for each sentence; the exit code it stands for."""
    if isinstance(fault, KeyboardInterrupt):
        return INTERRUPTED
    for sentence in [*str(fault).splitlines(), *_advice(fault)]:
        print(f"tesk: {sentence}", file=sys.stderr)
    if isinstance(fault, CommandError):
        return fault.code
    # a mistake in the configuration is wrong usage, as a wrong option is
    codes = {"ServerUnreachableError": UNREACHABLE, "ConfigError": USAGE, "ProfileError": USAGE}
    return codes.get(type(fault).__name__, FAILED)


def _advice(fault: BaseException) -> Iterator[str]:
    """What the user can do, where the fault itself cannot know."""
    if type(fault).__name__ == "ServerUnreachableError":
        yield "start one with 'tesk serve', or name another: --server URL, --profile NAME or TES_URL"
    if getattr(fault, "status", None) == 401:
        yield "give this server's credentials in a profile; 'tesk profiles --help' shows how"
