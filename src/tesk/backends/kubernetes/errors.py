"""What can go wrong between us and a Kubernetes API server, as types with a sentence each."""

from __future__ import annotations

from lightkube.models.meta_v1 import Status

__all__ = ["ClusterError", "Expired", "Gone", "NameTaken", "NoCluster", "Refused", "StillThere", "Unreachable"]


class ClusterError(Exception):
    """Any of them; the text is a sentence for the person who has to act."""


class NoCluster(ClusterError):
    """Nothing says where the cluster is or who we are there, or what says so cannot be read."""


class Unreachable(ClusterError):
    """The API server did not do what was asked, for a reason that may pass: no connection, no answer in time, a 5xx, or
    429. Whether it did the work all the same is not known. `code` is the HTTP status, None without an answer, and
    `retry_after` how many seconds the server asked to be left alone.
    """

    def __init__(self, sentence: str, code: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.retry_after = retry_after


class Refused(ClusterError):
    """The API server said no, and would again: rights, a quota, an object that is not valid.

    `status` is the server's whole answer. A 403 may still pass: a quota gets room, an operator grants a right.
    """

    def __init__(self, sentence: str, status: Status) -> None:
        super().__init__(sentence)
        self.status = status

    @property
    def code(self) -> int:
        """The HTTP status, such as 403."""
        return self.status.code or 0

    @property
    def reason(self) -> str:
        """Kubernetes' one word for it, such as `Forbidden` or `AlreadyExists`; empty when it gave none."""
        return self.status.reason or ""

    @property
    def said(self) -> str:
        """The server's own message."""
        return self.status.message or ""


class Gone(ClusterError):
    """What was asked about is not there (404)."""


class Expired(ClusterError):
    """The server no longer has the version of the collection that a list or watch wanted to go on from (410)."""


class NameTaken(ClusterError):
    """An object of that kind and name exists and is not ours: its labels say so. It was not touched."""


class StillThere(ClusterError):
    """An object of that kind and name is ours and is being deleted; the name is free once it has gone."""
