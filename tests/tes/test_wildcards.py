"""POSIX 1003.1-2017 section 2.13, one table for each thing it says."""

from __future__ import annotations

import pytest

from tesk.tes.wildcards import fixed_directory, has_wildcards, literal, match, match_name


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("a?c", ["abc", "a?c", "aéc", "a.c"], ["ac", "abbc"]),
        ("*.txt", ["a.txt", "a.b.txt"], [".txt", ".a.txt", "a.txt2", "atxt"]),
        ("*", ["a", "a b", "*", "a\nb"], [".a"]),
        ("a*", ["a", "ab", "a.b"], ["ba"]),
        ("a**b", ["ab", "axxb"], ["a"]),
        (".*", [".a", "..a"], ["a"]),
        ("?a", ["aa"], [".a"]),
        ("[.]a", [], [".a"]),
        ("[!x]a", ["aa"], [".a", "xa"]),
        (".?", [".a"], ["aa"]),
        ("[abc]", ["a", "b", "c"], ["d", "ab", "[abc]"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "-x"]),
        ("[!a-c]", ["d", "-", "!"], ["a", "b"]),
        ("[^a]", ["b"], ["a"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[!]a]", ["b"], ["]", "a"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[-a]", ["a", "-"], ["b"]),
        ("[a!]", ["a", "!"], ["b"]),
        ("[z-a]", [], ["z", "a", "m", "-"]),
        ("[!z-a]", ["z", "m"], []),
        ("[[:digit:]]", ["7"], ["a", ":", "d"]),
        ("[![:digit:]]x", ["ax"], ["7x"]),
        ("[[:alpha:]_][[:alnum:]]", ["_7", "aB"], ["7a", "__"]),
        ("[[:space:]]", [" ", "\t"], ["a"]),
        ("[[:punct:]]", ["!", "]", "\\", "~"], ["a", "7"]),
        ("[[:nothing:]]", [], ["n", ":"]),
        ("[[.-.]a]", ["-", "a"], ["."]),
        ("[[=a=]b]", ["a", "b"], ["="]),
        ("[a", ["[a"], ["a"]),
        ("[", ["["], [""]),
        ("a[]", ["a[]"], ["a"]),
        ("[\\]]", ["]"], ["\\", "\\]"]),
        ("[\\w^&~|]", ["w", "^", "&", "|"], ["\\", "a"]),
        ("\\*", ["*"], ["\\*", "a"]),
        ("a\\?b*", ["a?b", "a?bc"], ["axb"]),
        ("\\[a]", ["[a]"], ["a"]),
        ("\\.*", [".a"], ["a"]),
        ("a\\", ["a\\"], ["a"]),
        ("{a,b}", ["{a,b}"], ["a", "b"]),
        ("(a|b)+.$", ["(a|b)+.$"], ["a"]),
    ],
)
def test_name_matches(pattern: str, names: list[str], others: list[str]) -> None:
    assert [one for one in names if not match_name(pattern, one)] == []
    assert [one for one in others if match_name(pattern, one)] == []


@pytest.mark.parametrize(
    ("pattern", "paths", "others"),
    [
        ("/data/*", ["/data/a", "/data//a"], ["/data", "/data/a/b", "data/a", "/data/.a"]),
        ("/data/**", ["/data/a"], ["/data/a/b"]),
        ("/*/out?.txt", ["/x/out1.txt"], ["/out1.txt", "/x/y/out1.txt"]),
        ("/a[b/c]d", ["/a[b/c]d"], ["/abd", "/acd", "/a/d"]),
        ("/data/.*/x", ["/data/.git/x"], ["/data/git/x"]),
    ],
)
def test_path_matches_component_by_component(pattern: str, paths: list[str], others: list[str]) -> None:
    assert [one for one in paths if not match(pattern, one)] == []
    assert [one for one in others if match(pattern, one)] == []


@pytest.mark.parametrize(
    ("path", "wild"),
    [
        ("/data/a.txt", False),
        ("/data/*", True),
        ("/data/?", True),
        ("/*/a", True),
        ("/data/[ab]", True),
        ("/data/[ab", False),
        ("/data/a]", False),
        ("/data/[]", False),
        ("/data/[a/b]", False),
        ("/data/\\*", False),
        ("/data/\\\\*", True),
        ("/data/{a,b}", False),
        ("/data/a\\", False),
        ("", False),
    ],
)
def test_has_wildcards(path: str, wild: bool) -> None:
    assert has_wildcards(path) is wild


def test_many_stars_do_not_take_for_ever() -> None:
    assert not match_name("*a" * 12 + "b", "a" * 60)
    assert match_name("*" * 1000 + "b", "a" * 1000 + "b")
    assert not has_wildcards("[[:" * 300_000 + "]")


def test_literal_component_loses_its_escapes() -> None:
    assert literal("a\\*b\\\\") == "a*b\\"
    assert literal("a*") is None


@pytest.mark.parametrize(
    ("pattern", "directory"),
    [
        ("/data/*.txt", "/data"),
        ("/data/run?/x.txt", "/data"),
        ("/*", "/"),
        ("/data/a\\*b/*", "/data/a*b"),
        ("/data/x.txt", "/data"),
    ],
)
def test_fixed_directory(pattern: str, directory: str) -> None:
    assert fixed_directory(pattern) == directory
