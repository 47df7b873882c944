"""Patterns and directories, walked without leaving the tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tesk.storage import globs
from tesk.storage.confine import Tree
from tesk.storage.globs import Fault, Found, Skipped, expand, walk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in ("work/a.txt", "work/b.txt", "work/.hidden.txt", "work/c.log", "work/r1/o.txt", "work/r2/o.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "work/s*r").write_text("star")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/work/*.txt", ["/work/a.txt", "/work/b.txt"]),
        ("/work/.*.txt", ["/work/.hidden.txt"]),
        ("/work/r?", ["/work/r1", "/work/r2"]),
        ("/work/r[!1]/*", ["/work/r2/o.txt"]),
        ("/*/r*/o.txt", ["/work/r1/o.txt", "/work/r2/o.txt"]),
        ("/work/*/o.txt", ["/work/r1/o.txt", "/work/r2/o.txt"]),
        ("/work/**/o.txt", ["/work/r1/o.txt", "/work/r2/o.txt"]),
        ("/work/s\\*?", ["/work/s*r"]),
        ("/work/a.txt/*", []),
        ("/work/none/*", []),
        ("/work/r*/none", []),
        ("/work/*/../a.txt", []),
        ("/*.txt", []),
    ],
)
def test_expand(root: Path, pattern: str, found: list[str]) -> None:
    assert expand(Tree(root), pattern) == found


def test_expand_goes_through_symlinks_as_the_container_would(root: Path) -> None:
    (root / "in").symlink_to("/work")
    (root / "out").symlink_to("/etc")
    assert expand(Tree(root), "/in/*.log") == ["/in/c.log"]
    assert expand(Tree(root), "/out/p*") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_expand_says_when_it_cannot_look(root: Path) -> None:
    (root / "work").chmod(0)
    with pytest.raises(PermissionError):
        expand(Tree(root), "/work/*")


def test_walk_lists_parents_first_and_follows_symlinks(root: Path) -> None:
    (root / "work/r2/link").symlink_to("/work/r1")
    (root / "work/r2/empty").mkdir()
    assert list(walk(Tree(root), "/work/r2/")) == [
        Found("/work/r2/empty", "empty", "DIRECTORY"),
        Found("/work/r2/link", "link", "DIRECTORY"),
        Found("/work/r2/link/o.txt", "link/o.txt", "FILE"),
        Found("/work/r2/o.txt", "o.txt", "FILE"),
    ]


def test_walk_says_what_it_cannot_follow(root: Path) -> None:
    (root / "work/r1/gone").symlink_to("nowhere")
    (root / "work/r1/host").symlink_to("/etc/passwd")
    (root / "work/r1/self").symlink_to("../r1")
    os.mkfifo(root / "work/r1/pipe")
    met = {one.path.rpartition("/")[2]: one for one in walk(Tree(root), "/work/r1")}
    assert isinstance(met["o.txt"], Found)
    assert isinstance(met["pipe"], Skipped)
    for name, words in (("gone", "is not there"), ("host", "is not there"), ("self", "directory above it")):
        fault = met[name]
        assert isinstance(fault, Fault)
        assert words in fault.sentence
        assert "\n" not in fault.sentence


def test_walk_of_a_symlink_bomb_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(globs, "MAX_ENTRIES", 500)
    for depth in range(12):
        here = root / f"bomb/d{depth}"
        here.mkdir(parents=True)
        for name in "abc":
            (here / name).symlink_to(f"/bomb/d{depth + 1}")
    (root / "bomb/d12").mkdir()
    *_, last = walk(Tree(root), "/bomb/d0")
    assert isinstance(last, Fault)
    assert "more than 500 files" in last.sentence


def test_walk_is_not_stopped_by_depth(root: Path) -> None:
    here = os.open(root / "work/r1", os.O_RDONLY)
    for _ in range(300):
        os.mkdir("deeper-than-any-path-may-be", dir_fd=here)
        below = os.open("deeper-than-any-path-may-be", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert sum(isinstance(one, Found) for one in walk(Tree(root), "/work/r1")) == 301
