"""What is seen where it lies in shared storage, and what is moved all the same: a table over whole tasks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.plan.test_mounts import CLIENTS

from tesk.plan.make import CannotPlan, make_plan
from tesk.plan.model import Plan
from tesk.plan.site import SharedStorage, Site
from tesk.tes.models import TesTask

SITE = Site(
    file_roots=("/plain",),
    shared=(
        SharedStorage("work", "/data"),
        SharedStorage("genomes", "/ref", read_only=True),
        SharedStorage("odd", "/with space"),
    ),
)


def plan(site: Site = SITE, executor: dict[str, Any] | None = None, **task: Any) -> Plan:
    """The plan of a task with one executor."""
    sent = {"executors": [{"image": "busybox", "command": ["true"], **(executor or {})}], **task}
    return make_plan(TesTask.model_validate_json(json.dumps(sent)), site)


def file(url: str, path: str) -> dict[str, str]:
    return {"url": url, "path": path}


def folder(url: str, path: str) -> dict[str, str]:
    return {"url": url, "path": path, "type": "DIRECTORY"}


def told(made: Plan) -> list[str]:
    """The mounts as `path <- storage:path kind`, those of scratch as `path <- scratch`."""
    found = [
        f"{one.path} <- {one.place.storage}:{one.place.path} {'file' if one.type == 'FILE' else 'directory'}"
        + (" read only" if one.read_only else "")
        for one in made.shared
    ]
    found += [f"{one.path} <- scratch" + (" file" if one.type == "FILE" else "") for one in made.mounts]
    return sorted(found)


INPUTS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("a file", {"inputs": [file("/data/a/x", "/in/x")]}, ["/in/x <- work:a/x file read only"]),
    ("a URL", {"inputs": [file("file:///data/a/x", "/in/x")]}, ["/in/x <- work:a/x file read only"]),
    ("localhost", {"inputs": [file("file://localhost/data/a/x", "/in/x")]}, ["/in/x <- work:a/x file read only"]),
    ("escapes", {"inputs": [file("file:///data/a%20b/%C3%BC", "/in/x")]}, ["/in/x <- work:a b/ü file read only"]),
    ("a percent sign in a bare path", {"inputs": [file("/data/a%20b", "/x")]}, ["/x <- work:a%20b file read only"]),
    ("dots", {"inputs": [file("/data/a/../b//./x", "/in/x")]}, ["/in/x <- work:b/x file read only"]),
    ("a file in the root", {"inputs": [file("/data/x", "/in/x")]}, ["/in/x <- work:x file read only"]),
    ("a root with a space", {"inputs": [file("/with space/x", "/in/x")]}, ["/in/x <- odd:x file read only"]),
    ("over an image's file", {"inputs": [file("/data/p", "/etc/passwd")]}, ["/etc/passwd <- work:p file read only"]),
    ("at /", {"inputs": [file("/data/p", "/p")]}, ["/p <- work:p file read only"]),
    (
        "a directory, trailing slashes",
        {"inputs": [folder("/data/a/", "/in/d/")]},
        ["/in/d <- work:a directory read only"],
    ),
    ("the whole root, by name", {"inputs": [folder("/data", "/d")]}, ["/d <- work: directory read only"]),
    (
        "nested, at one place",
        {"inputs": [folder("/data/a", "/a"), file("/data/a/b/x", "/a/b/x"), folder("/data/a/b", "/a/b")]},
        ["/a <- work:a directory read only"],
    ),
    (
        "a file of another place in a directory",
        {"inputs": [folder("/data/a", "/a"), file("/data/c", "/a/c")]},
        ["/a <- scratch"],
    ),
    (
        "content in a directory",
        {"inputs": [folder("/data/a", "/a"), {"path": "/a/c", "content": "x"}]},
        ["/a <- scratch"],
    ),
    ("two directories for one path", {"inputs": [folder("/data/a", "/a"), folder("/data/b", "/a")]}, ["/a <- scratch"]),
    ("a volume in a directory", {"inputs": [folder("/data/a", "/a")], "volumes": ["/a/tmp"]}, ["/a <- scratch"]),
    (
        "the same file twice",
        {"inputs": [file("/data/x", "/in/x"), file("/data/x", "/in/y")]},
        ["/in/x <- work:x file read only", "/in/y <- work:x file read only"],
    ),
    (
        "two files for one path",
        {"inputs": [file("/data/x", "/in/x"), file("/data/y", "/in/x")]},
        ["/in/x <- work:y file read only"],
    ),
    (
        "several storages",
        {"inputs": [file("/data/x", "/in/x"), file("/ref/y", "/in/y")]},
        ["/in/x <- work:x file read only", "/in/y <- genomes:y file read only"],
    ),
    (
        "one shared, one from S3",
        {"inputs": [file("/data/x", "/in/x"), file("s3://b/y", "/in/y")]},
        ["/in <- scratch", "/in/x <- work:x file read only"],
    ),
    ("not shared, though it begins so", {"inputs": [file("/plain/x", "/data/x")]}, ["/data <- scratch"]),
]

OUTPUTS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("a file", {"outputs": [file("/data/r/x", "/out/x")]}, ["/out <- work:r directory"]),
    ("another name", {"outputs": [file("/data/r/y", "/out/x")]}, ["/out <- scratch"]),
    ("in the root", {"outputs": [file("/data/x", "/out/x")]}, ["/out <- scratch"]),
    ("a directory", {"outputs": [folder("/data/r", "/out")]}, ["/out <- work:r directory"]),
    (
        "a directory beside a file",
        {"outputs": [folder("/data/r/d", "/out/d"), file("/data/r/x", "/out/x")]},
        ["/out <- work:r directory"],
    ),
    (
        "a pattern",
        {"outputs": [{"url": "/data/r", "path": "/out/a/*.x", "path_prefix": "/out"}]},
        ["/out/a <- work:r/a directory"],
    ),
    (
        "two places for one directory",
        {"outputs": [file("/data/r/x", "/out/x"), file("/data/s/y", "/out/y")]},
        ["/out <- work:r directory"],
    ),
    (
        "a volume in it",
        {"outputs": [folder("/data/r", "/out")], "volumes": ["/out/tmp", "/tmp/x"]},
        ["/out <- work:r directory", "/tmp/x <- scratch"],
    ),
    (
        "an input of the same place",
        {"inputs": [file("/data/r/script", "/out/script")], "outputs": [file("/data/r/x", "/out/x")]},
        ["/out <- work:r directory"],
    ),
    (
        "an input of another place",
        {"inputs": [file("/ref/g", "/out/g")], "outputs": [file("/data/r/x", "/out/x")]},
        ["/out <- work:r directory", "/out/g <- genomes:g file read only"],
    ),
    (
        "content and a directory from S3 in it",
        {
            "inputs": [{"path": "/out/c", "content": "x"}, folder("s3://b/d", "/out/d")],
            "outputs": [file("/data/r/x", "/out/x")],
        },
        ["/out <- work:r directory", "/out/c <- scratch file", "/out/d <- scratch"],
    ),
    (
        "a directory from S3 at the same path",
        {"inputs": [folder("s3://b/d", "/out")], "outputs": [file("/data/r/x", "/out/x")]},
        ["/out <- scratch"],
    ),
    (
        "its parent is an input",
        {"inputs": [folder("/data/w", "/w")], "outputs": [folder("/data/w/out", "/w/out")]},
        ["/w <- work:w directory read only", "/w/out <- work:w/out directory"],
    ),
    (
        "its parent is an input from elsewhere",
        {"inputs": [folder("/data/v", "/w")], "outputs": [folder("/data/w/out", "/w/out")]},
        ["/w <- scratch"],
    ),
    (
        "to S3, of a file that was shared",
        {"inputs": [file("/data/x", "/d/x")], "outputs": [file("s3://b/x", "/d/x")]},
        ["/d <- scratch"],
    ),
    (
        "a redirect in it, and one beside it",
        {"outputs": [file("/data/r/x", "/out/x")], "executor": {"stdout": "/out/log", "stderr": "/err/log"}},
        ["/err <- scratch", "/out <- work:r directory"],
    ),
]


@pytest.mark.parametrize(
    ("task", "mounts"), [one[1:] for one in INPUTS + OUTPUTS], ids=[one[0] for one in INPUTS + OUTPUTS]
)
def test_what_is_mounted(task: dict[str, Any], mounts: list[str]) -> None:
    assert told(plan(**task)) == mounts


def test_what_is_seen_is_not_moved() -> None:
    made = plan(
        inputs=[file("/data/x", "/in/x"), file("s3://b/y", "/in/y")],
        outputs=[file("/data/r/x", "/out/x"), file("/data/r/z", "/out/y"), file("s3://b/x", "/out/x")],
    )
    assert [one.path for one in made.inputs] == ["/in/y"]
    assert [one.path for one in made.shared_inputs] == ["/in/x"]
    assert [(one.url, one.in_place) for one in made.outputs] == [
        ("/data/r/x", True),
        ("/data/r/z", False),
        ("s3://b/x", False),
    ]


@pytest.mark.parametrize("url", ["/database/x", "/data/../etc/passwd", "file:///data/%2e%2e/etc/passwd", "/other"])
def test_what_only_looks_like_shared_is_refused(url: str) -> None:
    with pytest.raises(CannotPlan, match="lies outside of the directories that this site allows"):
        plan(inputs=[file(url, "/in/x")])


def test_an_output_cannot_lie_where_only_reading_is_allowed() -> None:
    with pytest.raises(CannotPlan, match="the shared storage 'genomes', which is read only"):
        plan(outputs=[file("/ref/new", "/out/new")])


def test_what_images_fill_themselves_is_not_hidden() -> None:
    with pytest.raises(CannotPlan, match="images fill"):
        plan(outputs=[file("/data/r/x", "/usr/bin/x")])
    with pytest.raises(CannotPlan, match="images fill"):
        plan(inputs=[folder("/data/etc", "/etc")])


def test_directories_are_there_for_who_does_not_make_them() -> None:
    made = plan(
        outputs=[
            file("/data/r/a/b/x", "/out/a/b/x"),
            file("/data/r/y", "/out/y"),
            folder("/data/r/glob-" + "0" * 32, "/out/glob-" + "0" * 32),
        ],
        executor={"workdir": "/out/here", "stdout": "/out/logs/out"},
    )
    assert made.shared_directories == ("/out", "/out/a/b", "/out/here", "/out/logs")
    assert (made.mounts, made.directories) == ((), ())


@pytest.mark.parametrize("name", ["cromwell-1-hello.json", "cromwell-2-gather-glob.json", "nf-ga4gh-task.json"])
def test_recorded_tasks_of_workflow_engines_move_nothing(name: str) -> None:
    site = Site(shared=(SharedStorage("work", "/data"), SharedStorage("nextflow", "/shared")))
    made = make_plan(TesTask.model_validate_json((Path(CLIENTS) / name).read_bytes()), site)
    assert (made.inputs, made.mounts, made.directories) == ((), (), ())
    assert all(one.in_place for one in made.outputs)
    assert sum(not one.read_only for one in made.shared) == 1


def test_many_files_and_directories_are_planned_soon() -> None:
    count = 4000
    task: dict[str, Any] = {
        "inputs": [
            *(folder(f"/data/{one}/d", f"/in/{one}/d") for one in range(count)),
            *(file(f"/data/{one}/f", f"/in/{one}/f") for one in range(count)),
        ],
        "outputs": [file(f"/data/{one}/o/x", f"/out/{one}/x") for one in range(count)],
    }
    begun = time.process_time()
    made = plan(**task)
    assert time.process_time() - begun < 5
    assert len(made.shared) == 3 * count
