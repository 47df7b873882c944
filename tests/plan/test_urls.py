"""URLs: their normal form, and what a site refuses, with the sentence."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tesk.plan.site import Site
from tesk.plan.urls import UrlError, normalise_url

SITE = Site(file_roots=("/data", "/srv/shared"))
NO_FILES = Site()
EVERYWHERE = Site(file_roots=("/",))


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("/data/x", "/data/x"),
        ("/data", "/data"),
        ("/data/", "/data"),
        ("//data//x/./y/", "/data/x/y"),
        ("/data/a/../b", "/data/b"),
        ("/data/100%25", "/data/100%25"),
        ("/srv/shared/ü x", "/srv/shared/ü x"),
        ("file:///data/x", "file:///data/x"),
        ("FILE:///data/x", "file:///data/x"),
        ("file:/data/x", "file:///data/x"),
        ("file://localhost/data/x", "file:///data/x"),
        ("file:///data/tmpA/", "file:///data/tmpA"),
        ("file:///data//a/./b/../c", "file:///data/a/c"),
        ("file:///data/a%20b%2Fc", "file:///data/a%20b/c"),
        ("file:///data/a b", "file:///data/a%20b"),
        ("file:///data/a#b?c", "file:///data/a%23b%3Fc"),
        ("file:///data/50%", "file:///data/50%25"),
        ("file:///data/%C3%BC", "file:///data/%C3%BC"),
        ("file:///data/x:y=z,@&+;~", "file:///data/x:y=z,@&+;~"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("S3://Bucket/Key/", "s3://Bucket/Key/"),
        ("s3://bucket", "s3://bucket"),
        ("https://host/p?q=1#f", "https://host/p?q=1#f"),
        ("HTTP://Host:8080/a/../b", "http://Host:8080/a/../b"),
        ("FTP://me:p%40ss@h:2121/a%20b", "ftp://me:p%40ss@h:2121/a%20b"),
        ("https://user:word@[::1]:1/x", "https://user:word@[::1]:1/x"),
    ],
)
def test_allowed_url_has_one_normal_form(url: str, normal: str) -> None:
    assert normalise_url(url, SITE) == normal
    assert normalise_url(normal, SITE) == normal


LEAVES = "lies outside of the directories that this site allows ('/data', '/srv/shared')"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("/etc/passwd", LEAVES),
        ("/database/x", LEAVES),
        ("/data/../etc/passwd", LEAVES),
        ("/data/../../data/../etc", LEAVES),
        ("/srv", LEAVES),
        ("/", LEAVES),
        ("file:///etc/passwd", LEAVES),
        ("file:///data/%2e%2e/etc/passwd", LEAVES),
        ("file:///data/..%2Fetc", LEAVES),
        ("file:///data%2F..%2F..%2Fetc", LEAVES),
        ("file:///database", LEAVES),
        ("file:///etc/passwd", "the setting storage.file_roots"),
        ("file://otherhost/data/x", "names the host 'otherhost'"),
        ("file://data/x", "is written file:///path/to/file"),
        ("file:data/x", "has no absolute path"),
        ("file://", "has no absolute path"),
        ("file:///data/a%00b", r"holds the control character \x00"),
        ("file:///data/a%0Ab", r"holds the control character \x0a"),
        ("file:///data/%FF", "is not UTF-8"),
        ("/data/a\nb", r"holds the control character \x0a"),
        ("/data/a\0", r"holds the control character \x00"),
        ("s3://b/a\tb", r"holds the control character \x09"),
        ("s3://b/\udcff", "is not UTF-8"),
        ("data/x", "is neither a URL nor an absolute path; use ftp://, http://, https://, s3:// or file://"),
        ("", "is neither a URL nor an absolute path"),
        ("gs://b/x", "no storage for 'gs' URLs; use ftp://, http://, https://, s3:// or file://"),
        ("ftp:///x", "names no host; write it as ftp://host/path"),
        ("ftp://me:pw@h:port/x", "names no host"),
        ("ftp://h/../x", "has a '.' or '..' component"),
        ("ftp://h/a%2F..%2Fx", "has a '.' or '..' component"),
        ("ftp://h/a%0D%0ADELE%20x", r"holds the control character \x0d"),
        ("s3:bucket/key", "names no bucket; write it as s3://bucket/path"),
        ("s3:///key", "names no bucket"),
        ("s3://b/../c/key", "has a '.' or '..' component"),
        ("s3://b/./key", "has a '.' or '..' component"),
        ("http:///x", "names no host; write it as http://host/path"),
        ("https://?x", "names no host"),
        ("http://[::1/x", "names no host"),
        ("http://h:port/x", "names no host"),
    ],
)
def test_refused_url_says_why_and_what_to_do(url: str, says: str) -> None:
    with pytest.raises(UrlError) as caught:
        normalise_url(url, SITE)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["/data/x", "file:///data/x", "/"])
def test_site_without_file_roots_says_which_setting_would_allow_files(url: str) -> None:
    with pytest.raises(
        UrlError, match=r"allows no files as URLs; use ftp://, http://, https:// or s3://.*storage\.file_roots"
    ):
        normalise_url(url, NO_FILES)


@pytest.mark.parametrize("url", ["/", "/etc/passwd", "file:///x"])
def test_root_as_a_file_root_allows_every_path(url: str) -> None:
    assert normalise_url(url, EVERYWHERE) == url


def test_site_without_any_storage_suggests_inline_content() -> None:
    with pytest.raises(UrlError, match="use inline content"):
        normalise_url("s3://b/k", Site(schemes=frozenset()))


def test_scheme_that_the_site_has_is_taken_as_it_is() -> None:
    site = Site(schemes=frozenset({"gs"}))
    assert normalise_url("gs://b/k", site) == "gs://b/k"
    with pytest.raises(UrlError, match=r"no storage for 's3' URLs; use gs://$"):
        normalise_url("s3://b/k", site)


@given(st.text(st.sampled_from("/.a~*?#%: \x7f\n\u00fc"), max_size=12))
@example("/b/../k")
@example("//../k")
@example("//b/k/..")
@example("//b//k")
def test_plain_url_has_the_form_that_it_has_by_the_long_way(rest: str) -> None:
    def form(url: str) -> str | None:
        try:
            return normalise_url(url, SITE)
        except UrlError:
            return None

    assert form(f"s3:{rest}") == form(f"S3:{rest}")  # a scheme in capitals goes the long way
