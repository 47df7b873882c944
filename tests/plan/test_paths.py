"""Container paths: their normal form, and which are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesk.plan.paths import PathError, normalise, parent, upwards, within


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/", "/"),
        ("///", "/"),
        ("/.", "/"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("//a///b/./c/.", "/a/b/c"),
        ("/a/...", "/a/..."),
        ("/a/..b", "/a/..b"),
        ("/a b/ü*", "/a b/ü*"),
        ("/" + "n" * 255, "/" + "n" * 255),
        ("/" + "/".join(["n" * 255] * 15), "/" + "/".join(["n" * 255] * 15)),
    ],
)
def test_path_has_one_normal_form(path: str, normal: str) -> None:
    assert normalise(path) == normal


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "is not absolute; give an absolute one, such as '/data/file'"),
        ("x/y", "such as '/data/x/y'"),
        ("./x", "such as '/data/x'"),
        ("~/x", "is not absolute"),
        ("/a/../b", "has a '..' component"),
        ("/..", "has a '..' component"),
        ("/a\0b", r"holds the control character \x00"),
        ("/a\nb", r"holds the control character \x0a"),
        ("/a\x7f", r"holds the control character \x7f"),
        ("/a\udcff", "is not UTF-8"),
        ("/" + "n" * 256, "is longer than 255 bytes"),
        ("/" + "ü" * 128, "is longer than 255 bytes"),
        ("/" + "/".join(["n" * 255] * 16), "is longer than 4095 bytes"),
    ],
)
def test_refused_path_says_why(path: str, says: str) -> None:
    with pytest.raises(PathError) as caught:
        normalise(path)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/data", "/data", True),
        ("/data/x", "/data", True),
        ("/database", "/data", False),
        ("/data", "/data/x", False),
        ("/data", "/", True),
        ("/", "/", True),
        ("/", "/data", False),
    ],
)
def test_within_goes_by_component(path: str, root: str, expected: bool) -> None:
    assert within(path, root) is expected


def test_upwards_ends_at_the_root() -> None:
    assert list(upwards("/a/b")) == ["/a/b", "/a", "/"]
    assert list(upwards("/")) == ["/"]
    assert parent("/") == "/"


ODD = st.text(st.sampled_from("/.a~-* \x7f\n\u00fc"), max_size=12)
LONG = st.builds("{}{}".format, ODD, st.integers(60, 70).map("n".__mul__))


@given(st.lists(ODD | LONG, max_size=20).map("/".join))
def test_plain_path_has_the_form_that_it_has_by_the_long_way(text: str) -> None:
    def form(path: str) -> str | None:
        try:
            return normalise(path)
        except PathError:
            return None

    assert form("/" + text) == form(f"/{text}/")  # a path with a slash at its end goes the long way
