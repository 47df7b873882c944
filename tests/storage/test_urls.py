"""URLs as clients write them, and as sentences may show them."""

from __future__ import annotations

import pytest

from tesk.storage.errors import StorageError, redact, shown
from tesk.storage.urls import file_path, join, scheme_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/data/x", "/data/x"),
        ("/data/a%20b", "/data/a%20b"),
        ("file:///data/x", "/data/x"),
        ("FILE:///data/x", "/data/x"),
        ("file://localhost/data/x", "/data/x"),
        ("file:///data/a%20b", "/data/a b"),
        ("file:///data/a b", "/data/a b"),
        ("file:///data/100%25", "/data/100%"),
        ("file:///data/%C3%A9", "/data/é"),
        ("file:///data/x?y#z", "/data/x?y#z"),
        ("file:///data/%2e%2e/x", "/data/../x"),
        ("file:///", "/"),
    ],
)
def test_file_path(url: str, path: str) -> None:
    assert scheme_of(url) == "file"
    assert file_path(url) == path


@pytest.mark.parametrize("url", ["file://host/x", "file://data", "file://", "/data/\0", "file:///a%00b"])
def test_file_urls_that_name_no_file_here(url: str) -> None:
    with pytest.raises(StorageError):
        file_path(url)


@pytest.mark.parametrize("url", ["", "data/x", "./x", "C:\\x", "file:/x", "s3:/b/k", "://x", "not a scheme://x"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(StorageError, match="is no URL"):
        scheme_of(url)


@pytest.mark.parametrize(
    ("url", "relative", "joined"),
    [
        ("/out", "a/b c", "/out/a/b c"),
        ("/out/", "a%", "/out/a%"),
        ("/", "a", "/a"),
        ("file:///out", "a/b c%", "file:///out/a/b%20c%25"),
        ("file:///out/", "é", "file:///out/%C3%A9"),
        ("s3://b", "k", "s3://b/k"),
        ("s3://b/p/", "a b?c#d%", "s3://b/p/a b?c#d%"),
        ("ftp://me:pw@h/p?/", "a b?#%", "ftp://me:pw@h/p?/a%20b%3F%23%25"),
        ("https://h/p", "a b?", "https://h/p/a%20b%3F"),
        ("https://h/p/?sig=a/b", "x", "https://h/p/x?sig=a/b"),
        ("https://h/p", "", "https://h/p"),
    ],
)
def test_join_keeps_the_style_of_the_url(url: str, relative: str, joined: str) -> None:
    assert join(url, relative) == joined


@pytest.mark.parametrize("relative", ["a", "a b", "é", "100%", "q?x#y", "a+b", "\udcff"])
@pytest.mark.parametrize("url", ["file:///out", "/out"])
def test_a_joined_file_url_names_the_joined_path(url: str, relative: str) -> None:
    assert file_path(join(url, relative)) == f"/out/{relative}"


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://me:secret@host/x", "https://host/x"),
        ("https://host/x?X-Amz-Signature=secret", "https://host/x"),
        ("https://host?token=secret", "https://host"),
        ("https://me:se?cret@host/x", "https://host/x"),
        ("https://me:s@cret@host:80/x#secret", "https://host:80/x"),
        ("HTTP://me:secret@host/x", "HTTP://host/x"),
        ("ftp://me:secret@host/x", "ftp://host/x"),
        ("s3://bucket/key?part", "s3://bucket/key?part"),
        ("file:///data/a@b?c", "file:///data/a@b?c"),
        ("/data/a@b", "/data/a@b"),
        ("/data/a\nb", "/data/a\\nb"),
    ],
)
def test_redact_shows_no_secret(url: str, seen: str) -> None:
    assert redact(url) == seen


def test_shown_is_one_line_of_utf8() -> None:
    assert shown("a\tb\x1b[1m\udcff\ud800é") == "a\\tb\\x1b[1m\\xff\\ud800é"
    shown("".join(map(chr, range(0x11000)))).encode()
