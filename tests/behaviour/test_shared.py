"""Files that clients and tasks share are seen by executors where they lie: on every backend the same."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.sites import Site, sentences
from tests.behaviour.test_files import outputs

CLIENTS = Path(__file__).parents[1] / "data" / "clients"

CROMWELL = """#!/bin/sh
cd {here}
mkfifo out.pipe err.pipe
tee stdout.log <out.pipe & tee stderr.log <err.pipe >&2 &
( {command} ) >out.pipe 2>err.pipe
echo $? >rc.tmp
wait
rm out.pipe err.pipe
mkdir {glob} && ln part.* {glob}/ && ls {glob} >{glob}.list
sync
mv rc.tmp rc
"""


@pytest.fixture
def shared(site: Site) -> Path:
    """The shared directory, which also users without a name on this machine may use."""
    site.files.chmod(0o777)
    return site.files


def recorded(name: str, client_root: str, shared: Path, site: Site) -> dict[str, Any]:
    """A recorded task whose shared root is `shared`, on an image that is here."""
    text = (CLIENTS / name).read_text().replace(f'"{client_root}/', f'"{shared}/')
    task: dict[str, Any] = json.loads(text)
    task["resources"]["cpu_cores"] = 1  # as much as a small machine has to give
    for executor in task["executors"]:
        executor["image"] = site.place.image
        executor["command"] = ["sh" if one.endswith("bash") else one for one in executor["command"]]
    return task


def open_directory(path: Path) -> Path:
    """A directory that every user may write in, as workflow engines make it."""
    path.mkdir(parents=True)
    path.chmod(0o777)
    return path


def everything(below: Path) -> set[str]:
    """The paths of all that lies below a directory."""
    return {str(one.relative_to(below)) for one in below.rglob("*")}


def test_cromwells_first_task(site: Site, shared: Path) -> None:
    task = recorded("cromwell-1-hello.json", "/data", shared, site)
    here = open_directory(Path(task["executors"][0]["stdout"]).parent)
    glob = "glob-" + "a" * 32
    script = CROMWELL.format(here=here, command="echo hello; touch part.1 part.2", glob=glob)
    (here / "script").write_text(script)
    ended = site.run(task)
    assert ended["state"] == "COMPLETE", ended
    assert (here / "rc").read_text() == "0\n"
    assert "hello" in (here / "stdout").read_text()
    assert os.path.samefile(here / "part.1", here / glob / "part.1"), "one mount shows the whole directory"
    assert outputs(ended) == {one["path"]: (one["url"], size(one["url"])) for one in task["outputs"]}


def test_cromwells_gather(site: Site, shared: Path) -> None:
    task = recorded("cromwell-2-gather-glob.json", "/data", shared, site)
    here = open_directory(Path(task["executors"][0]["stdout"]).parent)
    for one in task["inputs"]:
        path = Path(one["url"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("7\n")
    glob = next(Path(one["url"]) for one in task["outputs"] if one["type"] == "DIRECTORY")
    counts = " ".join(one["url"] for one in task["inputs"] if one["url"].endswith("count.txt"))
    command = f"cat {counts} >total.txt; echo done >report.txt; echo 1 >part.1"
    (here / "script").write_text(CROMWELL.format(here=here, command=command, glob=glob.name))
    ended = site.run(task)
    assert ended["state"] == "COMPLETE", ended
    assert (here / "total.txt").read_text() == "7\n" * 3
    found = outputs(ended)
    assert found.pop(f"{glob}/part.1") == (f"{glob}/part.1", "2")
    assert found == {one["path"]: (one["url"], size(one["url"])) for one in task["outputs"] if one["type"] == "FILE"}


def test_a_task_of_nextflow_sees_inputs_of_other_places_in_its_directory(site: Site, shared: Path) -> None:
    task = recorded("nf-ga4gh-task.json", "/shared", shared, site)
    here = open_directory(shared / "work/3a/5f9c1d2e")
    (shared / "inputs").mkdir()
    (shared / "inputs/b.txt").write_text("one\ntwo\n")
    (here / ".command.sh").write_text("wc -l <b.txt >b.count\n")
    (here / ".command.run").write_text("cd /work; sh .command.sh; touch .command.out .command.err; echo 0 >.exitcode\n")
    task["executors"][0]["command"] = ["sh", "-c", "sh /work/.command.run 2>&1 | tee /work/.command.log"]
    ended = site.run(task)
    assert ended["state"] == "COMPLETE", ended
    assert (here / "b.count").read_text().strip() == "2"
    assert ended["logs"][0]["metadata"]["bytes_copied"] == "0"
    names = {".command.out", ".command.err", ".command.log", ".exitcode", "b.count"}
    assert everything(here) == {".command.sh", ".command.run", *names}, "no mount point is left"
    assert outputs(ended) == {f"/work/{one}": (f"{here}/{one}", size(here / one)) for one in names}


def test_inputs_of_all_kinds_meet_in_a_directory_that_is_written_in_place(site: Site, shared: Path) -> None:
    open_directory(shared / "run")
    (shared / "reference").mkdir()
    (shared / "reference/genome.fa").write_text("ACGT\n")
    ended = site.run(
        site.shell(
            "cd /data; cat genome.fa words/one said >all",
            inputs=[
                {"url": f"file://{shared}/reference/genome.fa", "path": "/data/genome.fa"},
                {"content": "text\n", "path": "/data/said"},
                {"content": "one\n", "path": "/data/words/one"},
            ],
            outputs=[
                {"url": f"{shared}/run", "path": "/data", "type": "DIRECTORY"},
                {"url": f"{shared}/other/name", "path": "/data/all"},
            ],
        )
    )
    assert ended["state"] == "COMPLETE", ended
    # As everywhere, what was brought into a directory that is an output belongs to that.
    for name, text in {
        "all": "ACGT\none\ntext\n",
        "genome.fa": "ACGT\n",
        "said": "text\n",
        "words/one": "one\n",
    }.items():
        assert (shared / "run" / name).read_text() == text
    assert (shared / "other/name").read_text() == "ACGT\none\ntext\n"
    assert outputs(ended)["/data/genome.fa"] == (f"{shared}/run/genome.fa", "5")


def test_an_input_is_seen_and_cannot_be_written(site: Site, shared: Path) -> None:
    (shared / "in").mkdir()
    (shared / "in/a").write_text("a")
    (shared / "in/b").write_text("b")
    os.chmod(shared / "in/a", 0o666)
    ended = site.run(
        site.shell(
            "cat /in/a; ls /in; echo x >/in/a",
            inputs=[{"url": f"{shared}/in/a", "path": "/in/a"}],
        )
    )
    assert ended["state"] == "EXECUTOR_ERROR"
    assert ended["logs"][0]["logs"][0]["stdout"] == "aa\n", "its neighbour is not seen"
    assert (shared / "in/a").read_text() == "a"


def test_directories_that_lack_are_made_for_every_user(site: Site, shared: Path) -> None:
    ended = site.run(
        site.shell(
            "echo x >/data/new/deep/x",
            outputs=[{"url": f"{shared}/made/new/deep/x", "path": "/data/new/deep/x"}],
        )
    )
    assert ended["state"] == "COMPLETE", ended
    assert stat.S_IMODE((shared / "made/new/deep").stat().st_mode) == 0o777
    assert outputs(ended) == {"/data/new/deep/x": (f"{shared}/made/new/deep/x", "2")}


def test_an_input_that_is_not_there_is_told_and_not_made(site: Site, shared: Path) -> None:
    task = site.shell(
        "true",
        inputs=[{"url": f"{shared}/not/there", "path": "/in/there"}],
        outputs=[{"url": f"{shared}/out/x", "path": "/out/x"}],
    )
    ended = site.run(task)
    assert ended["state"] == "SYSTEM_ERROR"
    assert f"{shared}/not/there" in sentences(ended)
    assert "does not exist" in sentences(ended)
    assert everything(shared) == set()


def test_a_symlink_that_leads_out_of_the_storage_is_not_followed(site: Site, shared: Path) -> None:
    (shared / "link").symlink_to("/etc/hostname")
    (shared / "up").symlink_to("../../../../../../etc/hostname")
    for name in ("link", "up"):
        ended = site.run(site.shell("cat /in/x", inputs=[{"url": f"{shared}/{name}", "path": "/in/x"}]))
        assert ended["state"] == "SYSTEM_ERROR", ended


def test_an_output_that_is_not_there_is_told(site: Site, shared: Path) -> None:
    task = site.shell("true", outputs=[{"url": f"{shared}/out/x", "path": "/out/x"}])
    ended = site.run(task)
    assert ended["state"] == "SYSTEM_ERROR"
    assert "/out/x" in sentences(ended)


def size(path: str | Path) -> str:
    """As `size_bytes` has it."""
    return str(Path(path).stat().st_size)
