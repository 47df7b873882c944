"""URLs of inputs and outputs: their normal form, and whether this site allows them."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote, unquote, urlsplit

from tesk.plan.model import Place
from tesk.plan.paths import PLAIN, flaw, within
from tesk.plan.site import Site

__all__ = ["UrlError", "file_of", "normalise_url", "place_of"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_PLAIN_URL = re.compile(rf"([a-z][a-z0-9+.-]*):/(?:/{PLAIN})+/?\Z")
_HOSTS = ("ftp", "http", "https")
_NOT_PLAIN = ("file", *_HOSTS)
_SAFE_IN_FILE_URL = "/!$&'()*+,;=:@~"


class UrlError(ValueError):
    """This site cannot read or write this URL; the message says why and what to do."""


def normalise_url(url: str, site: Site) -> str:
    """`url` in its normal form: files folded and confined, other URLs with a lower-case scheme.

    A bare path stays bare and a `file://` URL stays one: a client looks for what it sent in `logs.outputs`.
    Raises UrlError when the URL is malformed, of a scheme that the site does not have, or outside of
    `site.file_roots`.
    """
    plain = _PLAIN_URL.match(url)
    if plain and plain[1] in site.schemes and plain[1] not in _NOT_PLAIN:
        return url
    unfit = flaw(url)
    if unfit:
        raise UrlError(f"the URL {url!r} {unfit}")
    if url.startswith("/"):
        return _confined(url, url, site)
    match = _SCHEME.fullmatch(url)
    if match is None:
        raise UrlError(f"'{url}' is neither a URL nor an absolute path; use {_supported(site)}")
    scheme, rest = match.group(1).lower(), match.group(2)
    if scheme == "file":
        return "file://" + quote(_confined(_file_path(url, rest), url, site), safe=_SAFE_IN_FILE_URL)
    if scheme not in site.schemes:
        raise UrlError(f"this site has no storage for '{scheme}' URLs; use {_supported(site)}")
    if not rest.startswith("//") or not _has_host(scheme, rest):
        host = "bucket" if scheme in ("s3", "gs") else "host"
        raise UrlError(f"the URL '{url}' names no {host}; write it as {scheme}://{host}/path")
    path = unquote(rest, errors="surrogateescape") if scheme == "ftp" else rest
    unfit = flaw(path)
    if unfit:
        raise UrlError(f"'{url}', percent-decoded, {unfit}")
    if scheme not in ("http", "https") and {".", ".."} & set(path.split("/")):
        raise UrlError(f"the URL '{url}' has a '.' or '..' component; write it without")
    return f"{scheme}:{rest}"


def file_of(url: str) -> str | None:
    """The path of a file that `url`, a normalised one, names by itself or by `file://`; None for any other."""
    if url.startswith("file://"):
        return unquote(url.removeprefix("file://"), errors="surrogateescape")
    return url if url.startswith("/") else None


def place_of(url: str, site: Site) -> Place | None:
    """Where the file of `url`, a normalised one, lies in a shared storage of `site`; None where it lies in none."""
    path = file_of(url)
    if path is None:
        return None
    found = max(
        (one for one in site.shared if within(path, one.client_path)),
        key=lambda one: len(one.client_path),
        default=None,
    )
    return None if found is None else Place(found.name, path[len(found.client_path) :].strip("/"))


def _has_host(scheme: str, rest: str) -> bool:
    if scheme not in _HOSTS:
        return bool(rest[2:].partition("/")[0])
    try:
        parts = urlsplit(rest)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _file_path(url: str, rest: str) -> str:
    """The decoded path of `file:///path`, `file://localhost/path` or `file:/path`."""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise UrlError(f"'{url}' names the host '{host}'; a file on this site is written file:///path/to/file")
        rest = slash + path
    if not rest.startswith("/"):
        raise UrlError(f"'{url}' has no absolute path; write it as file:///path/to/file")
    path = unquote(rest, errors="surrogateescape")
    unfit = flaw(path)
    if unfit:
        raise UrlError(f"'{url}', percent-decoded, {unfit}")
    return path


def _confined(path: str, url: str, site: Site) -> str:
    # posixpath keeps two leading slashes; here they mean no more than one.
    normal = posixpath.normpath("/" + path.lstrip("/"))
    allowed = site.file_roots + tuple(one.client_path for one in site.shared)
    if any(within(normal, root) for root in allowed):
        return normal
    if not allowed:
        raise UrlError(
            f"'{url}' is a file, and this site allows no files as URLs; use {_supported(site)}, "
            "or have the operator list its directory in the setting storage.file_roots"
        )
    roots = ", ".join(f"'{root}'" for root in allowed)
    raise UrlError(
        f"'{url}' lies outside of the directories that this site allows ({roots}); put the file below one "
        "of them, or have the operator list its directory in the setting storage.file_roots"
    )


def _supported(site: Site) -> str:
    ways = [f"{scheme}://" for scheme in sorted(site.schemes)]
    if site.file_roots or site.shared:
        ways.append("file://")
    if not ways:
        return "inline content (the operator has configured no storage)"
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])} or {ways[-1]}"
