"""A task's files as its executors see them, across mounts, and nothing beyond."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tesk.storage.globs import Found, walk
from tesk.storage.view import Mounted, View


@pytest.fixture
def view(tmp_path: Path) -> View:
    for name, text in {
        "scratch/data/own": "own",
        "scratch/data/dir/hidden": "hidden",
        "shared/run/1/x": "x",
        "shared/run/1/sub/y": "y",
        "shared/run/2/other": "other",
        "shared/genome": "ACGT",
        "outside": "outside",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shared = str(tmp_path / "shared")
    (tmp_path / "shared/run/1/genome").touch()
    mounts = {
        "/data/dir": Mounted(shared, "run/1"),
        "/data/dir/genome": Mounted(shared, "genome"),
        "/far/away/root": Mounted(shared, ""),
    }
    return View(tmp_path / "scratch", mounts)


def read(view: View, path: str) -> str:
    with open(view.open(path)) as file:
        return file.read()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/data/own", "own"),
        ("/data/dir/x", "x"),
        ("/data/dir/sub/y", "y"),
        ("/data/dir/genome", "ACGT"),
        ("/data/dir/sub/../x", "x"),
        ("/data/dir/../own", "own"),
        ("/data/dir/sub/../../own", "own"),
        ("/data/../data/dir/x", "x"),
        ("/far/away/root/genome", "ACGT"),
        ("/far/away/root/run/2/other", "other"),
    ],
)
def test_each_path_is_what_is_mounted_there(view: View, path: str, text: str) -> None:
    assert read(view, path) == text


@pytest.mark.parametrize("path", ["/data/dir/hidden", "/data/dir/../../outside", "/far/away/x", "/far/../outside"])
def test_nothing_is_seen_beside(view: View, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        view.open(path)


@pytest.mark.parametrize(
    ("where", "target", "text"),
    [
        ("shared/run/1/link", "x", "x"),
        ("shared/run/1/link", "../own", "own"),
        ("shared/run/1/link", "/data/own", "own"),
        ("shared/run/1/link", "/data/dir/genome", "ACGT"),
        ("scratch/data/link", "dir/x", "x"),
        ("scratch/data/link", "dir/genome", "ACGT"),
        ("scratch/data/link", "/far/away/root/genome", "ACGT"),
    ],
)
def test_symlinks_are_followed_as_in_the_container(
    view: View, tmp_path: Path, where: str, target: str, text: str
) -> None:
    (tmp_path / where).symlink_to(target)
    path = "/data/link" if where.startswith("scratch") else "/data/dir/link"
    assert read(view, path) == text


@pytest.mark.parametrize("target", ["../2/other", "../../../../outside", "/etc/hostname", "../../../outside"])
def test_symlinks_lead_nowhere_else(view: View, tmp_path: Path, target: str) -> None:
    (tmp_path / "shared/run/1/link").symlink_to(target)
    with pytest.raises(FileNotFoundError):
        view.open("/data/dir/link")


def test_a_mount_that_became_a_symlink_leads_out_of_nothing(view: View, tmp_path: Path) -> None:
    os.rename(tmp_path / "shared/run/1", tmp_path / "shared/run/3")
    (tmp_path / "shared/run/1").symlink_to(tmp_path)
    with pytest.raises(FileNotFoundError):
        view.open("/data/dir/outside")


def test_a_walk_crosses_mounts(view: View) -> None:
    found = {one.path for one in walk(view, "/data") if isinstance(one, Found)}
    assert found == {"/data/own", "/data/dir", *(f"/data/dir/{one}" for one in ("x", "sub", "sub/y", "genome"))}


def test_without_scratch_there_are_the_mounts_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    view = View(None, {"/d": Mounted(str(tmp_path), "")})
    assert read(view, "/d/x") == "x"
    with pytest.raises(FileNotFoundError):
        view.stat("/x")
