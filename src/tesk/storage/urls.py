"""Reading URLs as TES clients write them: `file://`, bare absolute paths, and everything with a scheme."""

from __future__ import annotations

from urllib.parse import quote, unquote

from tesk.storage.errors import StorageError, redact, shown

__all__ = ["file_path", "join", "scheme_of"]


def scheme_of(url: str) -> str:
    """The scheme in lower case; a bare absolute path counts as `file`.

    Raises StorageError for anything else.
    """
    if url.startswith("/"):
        return "file"
    scheme, found, _ = url.partition("://")
    if not found or not scheme.replace("+", "").replace("-", "").isalnum():
        raise StorageError(f"{shown(url)} is no URL that storage can read: give scheme://... or an absolute path")
    return scheme.lower()


def file_path(url: str) -> str:
    """The absolute path that a `file://` URL (percent-decoded) or a bare path (as it is) names.

    Raises StorageError for a host that is not this machine and for a path that is not absolute.
    """
    if url.startswith("/"):
        path = url
    else:
        host, slash, path = url.partition("://")[2].partition("/")
        if host.lower() not in ("", "localhost") or not slash:
            raise StorageError(
                f"{redact(url)} names a file on the host '{shown(host)}': write file:///path for a file here"
            )
        path = "/" + unquote(path, errors="surrogateescape")
    if "\0" in path:
        raise StorageError(f"{redact(url)} holds a NUL character, which no file name can")
    return path


def join(url: str, relative: str) -> str:
    """The URL of `relative` (slash-separated, no escapes) in the directory at `url`, in the style of `url`.

    A bare path and an S3 key are taken as they are; other URLs are percent-encoded, and a query stays at the
    end.
    """
    if not relative:
        return url
    scheme = scheme_of(url)
    if url.startswith("/") or scheme not in ("file", "ftp", "http", "https"):
        return f"{url.rstrip('/')}/{relative}"
    encoded = quote(relative, errors="surrogateescape")
    if scheme in ("file", "ftp"):
        return f"{url.rstrip('/')}/{encoded}"
    base = url.partition("#")[0]
    base, mark, query = base.partition("?")
    return f"{base.rstrip('/')}/{encoded}{mark}{query}"
