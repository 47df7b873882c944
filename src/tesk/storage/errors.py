"""What storage says when it cannot do what was asked, and how URLs and names are shown in it."""

from __future__ import annotations

__all__ = ["StorageError", "reason", "redact", "shown"]


class StorageError(Exception):
    """A URL could not be read, written or listed.

    The message is one sentence for the user, with the URL but never with what is secret in it. `not_found`
    says that there surely is nothing; every other fault leaves that open (law 2).
    """

    def __init__(self, message: str, *, not_found: bool = False) -> None:
        super().__init__(message)
        self.not_found = not_found


def shown(text: str) -> str:
    """`text` fit for one line of UTF-8: control characters and bytes that are no UTF-8 are escaped."""
    printable = "".join(
        one if one.isprintable() or "\udc80" <= one <= "\udcff" else one.encode("unicode_escape").decode()
        for one in text
    )
    return printable.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def redact(url: str) -> str:
    """`url` as a sentence may show it: without user, password, and the query that signs a presigned URL."""
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() == "file":
        return shown(url)
    host, slash, path = rest.partition("/")
    rest = host.rpartition("@")[2] + slash + path
    if scheme.lower() in ("http", "https"):
        rest = rest.partition("#")[0].partition("?")[0]
    return shown(f"{scheme}://{rest}")


def reason(error: BaseException) -> str:
    """Why `error` happened, in the words of the operating system and without its file name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return shown(str(error) or type(error).__name__)
