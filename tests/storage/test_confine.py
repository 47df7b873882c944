"""No path, no symlink and no race leaves its root."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from tesk.storage.confine import ConfinementError, HostRoots, Tree, open_beneath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with one file, beside a secret that lies outside of it."""
    made = tmp_path / "root"
    (made / "data/sub").mkdir(parents=True)
    (made / "data/x").write_text("inside")
    (made / "data/sub/y").write_text("deep")
    (tmp_path / "secret").write_text("secret")
    (made / "secret").write_text("the root's own")
    return made


def content(tree: Tree, path: str) -> str:
    opened = tree.open(path)
    with open(opened) as file:
        return file.read()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/data/x", "inside"),
        ("data/x", "inside"),
        ("//data/./x", "inside"),
        ("/data/sub/../x", "inside"),
        ("/../../data/x", "inside"),
        ("/data/../../../secret", "the root's own"),
        ("/../secret", "the root's own"),
    ],
)
def test_dots_stay_in_the_tree(root: Path, path: str, found: str) -> None:
    assert content(Tree(root), path) == found


@pytest.mark.parametrize(
    ("link", "target", "path", "found"),
    [
        ("data/l", "x", "/data/l", "inside"),
        ("data/l", "/data/x", "/data/l", "inside"),
        ("data/l", "sub/../x", "/data/l", "inside"),
        ("data/l", "../../../secret", "/data/l", "the root's own"),
        ("data/l", "/secret", "/data/l", "the root's own"),
        ("data/sub/l", "..", "/data/sub/l/x", "inside"),
        ("data/sub/l", "/", "/data/sub/l/data/x", "inside"),
        ("data/l", "/data/sub/", "/data/l/y", "deep"),
        ("data/l", "/data/sub", "/data/l/../x", "inside"),
    ],
)
def test_symlinks_lead_where_the_container_would_go(root: Path, link: str, target: str, path: str, found: str) -> None:
    (root / link).symlink_to(target)
    assert content(Tree(root), path) == found


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../etc/passwd", "/proc/self/root/etc/passwd"])
def test_a_symlink_to_the_hosts_file_finds_nothing(root: Path, target: str) -> None:
    (root / "data/l").symlink_to(target)
    with pytest.raises(FileNotFoundError):
        Tree(root).open("/data/l")
    with pytest.raises(FileNotFoundError):
        Tree(root).stat("/data/l")


def test_the_root_itself_may_be_reached_through_a_symlink(root: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(root)
    assert content(Tree(tmp_path / "way"), "/data/x") == "inside"


def test_a_symlink_loop_ends(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as raised:
        Tree(root).open("/a")
    assert raised.value.errno == errno.ELOOP
    (root / "deep").symlink_to("deep/deep")
    with pytest.raises(OSError, match="symbolic links"):
        Tree(root).make_directory("/deep/x")


def test_writing_through_a_planted_symlink_stays_inside(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "data/out").symlink_to(outside)
    (root / "data/file").symlink_to(tmp_path / "secret")
    tree = Tree(root)
    for path in ("/data/out/new", "/data/file"):
        os.close(tree.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, parents=0o755))
    tree.make_directory("/data/out/directory")
    assert list(outside.iterdir()) == []
    assert (tmp_path / "secret").read_text() == "secret"
    assert (root / str(outside).lstrip("/") / "new").is_file()


def test_missing_parents_are_made_only_when_asked(root: Path) -> None:
    tree = Tree(root)
    with pytest.raises(FileNotFoundError):
        tree.open("/new/deep/file", os.O_WRONLY | os.O_CREAT)
    assert not (root / "new").exists()
    os.close(tree.open("/new/deep/file", os.O_WRONLY | os.O_CREAT, 0o600, parents=0o755))
    assert (root / "new").stat().st_mode & 0o777 == 0o755
    assert (root / "new/deep/file").stat().st_mode & 0o777 == 0o600


def test_making_a_directory_twice_is_fine_and_over_a_file_is_not(root: Path) -> None:
    tree = Tree(root)
    tree.make_directory("/data/sub")
    tree.make_directory("/")
    with pytest.raises(NotADirectoryError):
        tree.make_directory("/data/x")
    with pytest.raises(NotADirectoryError):
        tree.make_directory("/data/x/below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_new_directories_get_the_owner_and_old_ones_keep_theirs(root: Path) -> None:
    tree = Tree(root)
    os.close(tree.open("/data/a/b/file", os.O_WRONLY | os.O_CREAT, parents=0o755, owner=(4321, 4322)))
    for path in ("data/a", "data/a/b"):
        assert ((root / path).stat().st_uid, (root / path).stat().st_gid) == (4321, 4322)
    assert (root / "data").stat().st_uid == 0


def test_only_regular_files_are_opened_and_a_fifo_never_blocks(root: Path) -> None:
    os.mkfifo(root / "fifo")
    tree = Tree(root)
    with pytest.raises(OSError, match="neither a file nor a directory"):
        tree.open("/fifo")
    with pytest.raises(OSError, match=r"device|address"):  # ENXIO
        tree.open("/fifo", os.O_WRONLY)
    with pytest.raises(IsADirectoryError):
        tree.open("/data")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(root / "sock"))
    with pytest.raises(OSError, match=r"device|address"):
        tree.open("/sock")


def test_scan_tells_kinds_without_following(root: Path) -> None:
    (root / "data/l").symlink_to("sub")
    os.mkfifo(root / "data/p")
    assert Tree(root).scan("/data") == [("l", "link"), ("p", "other"), ("sub", "directory"), ("x", "file")]


def test_errors_name_the_path_in_the_tree_and_not_the_hosts(root: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        Tree(root).open("/data/none")
    assert raised.value.filename == "/data/none"
    assert str(root) not in str(raised.value)


def test_a_directory_swapped_for_a_symlink_never_leaks(root: Path, tmp_path: Path) -> None:
    """Another process swaps a directory and a symlink out of the tree as fast as it can, while this one reads."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    real, link, name = root / "real", root / "link", root / "name"
    real.mkdir()
    (real / "f").write_text("inside")
    link.symlink_to(outside)
    real.rename(name)
    ending = threading.Event()

    def swap() -> None:
        while not ending.is_set():
            name.rename(real)
            link.rename(name)
            name.rename(link)
            real.rename(name)

    swapping = threading.Thread(target=swap)
    swapping.start()
    read = 0
    try:
        for _ in range(3000):
            try:
                assert content(Tree(root), "/name/f") == "inside"
                read += 1
            except OSError:
                continue
    finally:
        ending.set()
        swapping.join()
    assert read


def test_no_descriptor_is_left_open(root: Path) -> None:
    (root / "data/l").symlink_to("/data/sub/../x")
    (root / "loop").symlink_to("loop")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("needs /proc")
    tree = Tree(root)
    for path in ("/data/l", "/none", "/loop", "/data/x/y", "/data", "/a/b/c", "/data/../data/l"):
        try:
            os.close(tree.open(path))
        except OSError:
            continue
    tree.scan("/data")
    tree.make_directory("/q/r/s")
    assert len(os.listdir("/proc/self/fd")) == before


def test_open_beneath_is_tree_open(root: Path) -> None:
    os.close(open_beneath(root, "/data/new", os.O_WRONLY | os.O_CREAT, 0o640))
    assert (root / "data/new").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("{root}/data/x", True),
        ("{root}/data/../data/x", True),
        ("{root}/data/sub/../../data/x", True),
        ("{root}/../root/data/x", True),
        ("{root}/../secret", False),
        ("{root}base/x", False),
        ("{parent}", False),
        ("{parent}/secret", False),
        ("/etc/passwd", False),
        ("/", False),
    ],
)
def test_host_paths_must_lie_beneath_a_root(root: Path, path: str, allowed: bool) -> None:
    (root.parent / "rootbase").mkdir()
    (root.parent / "rootbase/x").write_text("secret")
    roots, spelled = HostRoots([root]), path.format(root=root, parent=root.parent)
    if allowed:
        assert content(roots, spelled) == "inside"
    else:
        with pytest.raises(ConfinementError, match="this site allows"):
            roots.open(spelled)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("x", "inside"),
        ("sub/../x", "inside"),
        ("{root}/data/x", "inside"),
        ("{root}/data/sub/../x", "inside"),
        ("../../secret", None),
        ("{parent}/secret", None),
        ("/etc/passwd", None),
        ("../../root/data/x", None),
    ],
)
def test_host_symlinks_are_followed_only_within_the_roots(root: Path, target: str, found: str | None) -> None:
    (root / "data/l").symlink_to(target.format(root=root, parent=root.parent))
    roots = HostRoots([root])
    if found:
        assert content(roots, f"{root}/data/l") == found
        return
    with pytest.raises(ConfinementError, match="out of the directories that this site allows"):
        roots.open(f"{root}/data/l")


def test_a_symlink_may_lead_from_one_root_to_another(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "z").write_text("other")
    (root / "l").symlink_to(other / "z")
    assert content(HostRoots([root, other]), f"{root}/l") == "other"


def test_a_root_behind_a_symlink_is_known_by_both_names(root: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(root)
    (root / "data/l").symlink_to(root / "data/x")
    assert content(HostRoots([tmp_path / "way"]), f"{tmp_path}/way/data/l") == "inside"


def test_the_whole_machine_can_be_a_root(root: Path) -> None:
    (root / "l").symlink_to("../" * 30 + str(root / "data/x").lstrip("/"))
    assert content(HostRoots(["/"]), f"{root}/l") == "inside"


def test_without_roots_every_path_is_refused(root: Path) -> None:
    with pytest.raises(ConfinementError, match="this site allows no file paths"):
        HostRoots([]).open(str(root / "data/x"))
