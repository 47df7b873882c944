"""The demo, and that it would notice what is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.command import run_tesk
from tests.servers import S3Server

from tesk.cli.demo import fastq, work
from tesk.cli.demo.files import Files
from tesk.cli.faults import CommandError

pytestmark = pytest.mark.slow

AWKS = {"mawk": "mawk", "gawk": "gawk", "busybox": "busybox awk", "original-awk": "original-awk"}


@pytest.mark.usefixtures("sandbox")
def test_the_demo_runs_and_keeps_what_it_is_asked_to(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    result = run_tesk("demo", "--keep", keep, "--seed", 7)
    assert (result.code, result.err) == (0, "")
    assert "all is as it must be" in result.out
    for end in ("CANCELED        sleep ten minutes", "EXECUTOR_ERROR  stats of a broken file"):
        assert end in result.out
    table = (keep / "files/table.tsv").read_text()
    assert table in result.out
    assert len(table.splitlines()) == 8
    assert list((keep / "state/attempts").iterdir()) == []
    again = run_tesk("demo", "--keep", keep)
    assert again.code == 1
    assert "exists already" in again.err


@pytest.mark.usefixtures("sandbox")
def test_the_demo_notices_a_wrong_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tesk.cli.demo.play import play

    monkeypatch.setattr(work, "GATHER", work.GATHER.replace("gc / bases", "gc / (bases + 150)"))
    wrong = play(tmp_path, 1)
    assert len(wrong) == 1
    assert "is not what Python computes" in wrong[0]


@pytest.mark.parametrize(
    "half", [("--server", "http://127.0.0.1:1"), ("--files", "s3://bucket/demo"), ("--profile", "x")]
)
def test_a_server_that_is_there_needs_a_place_for_files(half: tuple[str, str]) -> None:
    result = run_tesk("demo", *half)
    assert (result.code, result.out) == (2, "")
    assert "give --files together with --server or --profile" in result.err


def test_files_of_the_demo_travel_to_the_place_that_is_named_and_back(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.bucket("travel")
    (tmp_path / "reads").mkdir()
    (tmp_path / "reads/a.fastq").write_text("@a\n")
    files = Files(tmp_path, "s3://travel/demo/")
    files.send(["reads/a.fastq"])
    (tmp_path / "reads/a.fastq").unlink()
    assert files.url("reads/a.fastq") == "s3://travel/demo/reads/a.fastq"
    assert files.fetch("reads/a.fastq").read_text() == "@a\n"
    with pytest.raises(CommandError, match="s3://travel/demo/none"):
        files.fetch("none")
    here = Files(tmp_path)
    here.send(["nothing is sent"])
    assert here.url("x") == f"file://{tmp_path}/x"


def test_the_demo_without_an_engine_says_what_to_allow() -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, with setpriv (util-linux), can take the right to make namespaces away")
    without = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    result = run_tesk("demo", before=without)
    assert result.code == 1
    assert result.err.startswith("tesk: the server did not start: no engine works on this machine; sandbox: ")
    assert "podman" in result.err
    assert len(result.err.splitlines()) == 1
    shorter = run_tesk("run", "true", before=without)
    assert shorter.code == 1
    assert shorter.err.startswith("tesk: no engine works on this machine; sandbox: ")


@pytest.mark.parametrize("awk", AWKS)
def test_the_scripts_agree_with_python_in_every_awk(tmp_path: Path, awk: str) -> None:
    if shutil.which(AWKS[awk].split()[0]) is None:
        pytest.skip(f"install {awk} to test the demo's scripts with it")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "awk").write_text(f'#!/bin/sh\nexec {AWKS[awk]} "$@"\n')
    (bin_ / "awk").chmod(0o755)
    for name, script in (("stats.sh", work.STATS), ("gather.sh", work.GATHER)):
        (tmp_path / name).write_text(script)
    (tmp_path / "tables").mkdir()

    def sh(*args: object) -> subprocess.CompletedProcess[str]:
        path = f"{bin_}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["/bin/sh", *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )

    chunks = fastq.make_chunks(tmp_path, 3, 3, 40)
    for chunk in chunks:
        assert sh("stats.sh", chunk.name, chunk.path, f"tables/{chunk.name}.tsv").returncode == 0
    assert sh("gather.sh", "tables", "table.tsv").returncode == 0
    assert (tmp_path / "table.tsv").read_text() == fastq.table(chunks)
    fastq.break_record(chunks[0], tmp_path / "broken", work.BROKEN_RECORD)
    result = sh("stats.sh", "broken", "broken", "x")
    assert result.returncode == 3
    assert f"broken: record {work.BROKEN_RECORD}: " in result.stderr


def test_the_same_seed_makes_the_same_reads(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        seed = 1 if name != "c" else 2
        made.append([one.path.read_bytes() for one in fastq.make_chunks(tmp_path / name, seed, 2, 10)])
    assert made[0] == made[1] != made[2]
    assert len(made[0][0].splitlines()) == 40
