"""What can go wrong between a client and a TES server, told as sentences."""

from __future__ import annotations

import json
from typing import Any

__all__ = [
    "ClientError",
    "NotSentError",
    "ProfileError",
    "ServerUnreachableError",
    "WaitTimeoutError",
    "ends_all",
    "error_from",
]

_SHOWN = 200  # characters of a body that is not JSON


class ClientError(Exception):
    """A request that the server refused or answered with something that is not TES.

    `status` is the HTTP status, or None when there was none; `problems` holds one sentence for each thing
    that is wrong, in the server's own words; `str()` is all of them, one a line. `retry_after` is how many
    seconds the server asked to wait.
    """

    def __init__(self, *problems: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.status = status
        self.retry_after = retry_after


class ServerUnreachableError(ClientError):
    """No answer: nothing listens there, the name does not resolve, or it took too long.

    `sent` is False when the request surely never left: there was no connection.
    """

    def __init__(self, *problems: str, sent: bool = True) -> None:
        super().__init__(*problems)
        self.sent = sent


class NotSentError(ClientError):
    """`create_all` did not send this task, since another one's failure would have been this one's too."""


class ProfileError(ClientError):
    """The file of profiles cannot be used, or has no such profile; each problem names file and line."""


class WaitTimeoutError(ClientError):
    """`wait` ran out of time; `pending` are the ids of the tasks that have not ended."""

    def __init__(self, message: str, pending: tuple[str, ...]) -> None:
        super().__init__(message)
        self.pending = pending


def ends_all(error: ClientError) -> bool:
    """Whether what failed with `error` would fail for every other task too."""
    return isinstance(error, ServerUnreachableError) or error.status == 401


def error_from(status: int, body: bytes, where: str, retry_after: float | None = None) -> ClientError:
    """The error that an answer other than 2xx stands for.

    TES names no error body; TESK's is a problem document (`title`, `detail`, `errors: [{path, message}]`),
    and other servers send `detail`, `message` or `error` as text, or no JSON at all.
    """
    try:
        found = json.loads(body)
    except ValueError:
        text = " ".join(body.decode("utf-8", "replace").split())
        found = {"detail": text[:_SHOWN]} if text and not text.startswith("<") else {}
    problems = _sentences(found)
    sentences = problems or [f"{where} answered HTTP {status} and no reason."]
    return ClientError(*sentences, status=status, retry_after=retry_after)


def _sentences(body: Any) -> list[str]:
    if isinstance(body, str):
        return [body]
    if not isinstance(body, dict):
        return []
    listed = body.get("errors")
    found = [_one(item) for item in listed] if isinstance(listed, list) else []
    if found:
        return found
    for key in ("detail", "message", "msg", "error", "title"):
        value = body.get(key)
        if isinstance(value, str) and value:
            return [value]
    return []


def _one(item: Any) -> str:
    if isinstance(item, dict):
        path, message = item.get("path"), item.get("message")
        return f"{path}: {message}" if path else str(message)
    return str(item)
