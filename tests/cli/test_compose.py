"""`tesk run`'s options as a TES task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import Call

from tesk.cli.compose import Wanted, compose
from tesk.cli.faults import CommandError
from tesk.tes.models import TesTask, take_unknown


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("one\ntwo\n")
    (tmp_path / "dir").mkdir()


def task(command: str, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = compose(Wanted(command, **options)).task
    model = TesTask.model_validate_json(json.dumps(made))
    assert list(take_unknown(model)) == []
    return made


def test_names_become_variables_with_paths_in_the_container(tmp_path: Path) -> None:
    made = task("wc -l < $in > $out", inputs=("in=in.txt",), outputs=("out=n.txt",))
    assert made["executors"] == [
        {
            "image": "sandbox",
            "command": ["/bin/sh", "-c", "wc -l < $in > $out"],
            "env": {"in": "/data/inputs/in/in.txt", "out": "/data/outputs/out/n.txt"},
        }
    ]
    assert made["inputs"] == [
        {"name": "in", "url": (tmp_path / "in.txt").as_uri(), "path": "/data/inputs/in/in.txt", "type": "FILE"}
    ]
    assert made["outputs"] == [
        {"name": "out", "url": (tmp_path / "n.txt").as_uri(), "path": "/data/outputs/out/n.txt", "type": "FILE"}
    ]
    assert made["name"] == "wc -l < $in > $out"


def test_directories_urls_and_contents_are_inputs_too(tmp_path: Path) -> None:
    made = task(
        "true",
        input_directories=("d=dir",),
        inputs=("u=https://host/a%20b.txt?x=1", "bare=s3://bucket"),
        output_directories=("r=results/new",),
        contents=("c=in.txt",),
    )
    by_name = {one["name"]: one for one in made["inputs"] + made["outputs"]}
    assert by_name["d"]["type"] == by_name["r"]["type"] == "DIRECTORY"
    assert by_name["d"]["path"] == "/data/inputs/d/dir"
    assert by_name["r"]["url"] == (tmp_path / "results/new").as_uri()
    assert by_name["u"]["path"] == "/data/inputs/u/a b.txt"
    assert by_name["u"]["url"] == "https://host/a%20b.txt?x=1"
    assert by_name["bare"]["path"] == "/data/inputs/bare/bare"
    assert by_name["c"] == {"name": "c", "path": "/data/inputs/c/in.txt", "type": "FILE", "content": "one\ntwo\n"}


def test_redirects_are_inputs_and_outputs_but_no_variables() -> None:
    made = task("cat", stdin="in.txt", stdout="o.txt", stderr="e.txt")
    executor = made["executors"][0]
    assert executor["stdin"] == made["inputs"][0]["path"] == "/data/inputs/stdin/in.txt"
    assert [executor["stdout"], executor["stderr"]] == [one["path"] for one in made["outputs"]]
    assert "env" not in executor


def test_everything_else_finds_its_field() -> None:
    made = task(
        "true",
        image="alpine",
        name="n",
        env=("A=1=2", "B="),
        tags=("k=v",),
        volumes=("/scratch",),
        workdir="/w",
        cpu_cores=0.5,
        ram_gb=2.0,
        disk_gb=3.0,
    )
    assert made == {
        "name": "n",
        "executors": [
            {
                "image": "alpine",
                "command": ["/bin/sh", "-c", "true"],
                "env": {"A": "1=2", "B": ""},
                "workdir": "/w",
            }
        ],
        "volumes": ["/scratch"],
        "tags": {"k": "v"},
        "resources": {"cpu_cores": 0.5, "ram_gb": 2.0, "disk_gb": 3.0},
    }


def test_exec_splits_words_and_puts_paths_in_the_place_of_names() -> None:
    made = task("cp '$in' ${out} $other 'a b'", shell=False, inputs=("in=in.txt",), outputs=("out=o",))
    assert made["executors"][0]["command"] == [
        "cp",
        "/data/inputs/in/in.txt",
        "/data/outputs/out/o",
        "$other",
        "a b",
    ]


def test_an_odd_file_name_keeps_its_name_and_is_no_pattern(tmp_path: Path) -> None:
    odd = "a b#%[1]*?ü.txt"
    (tmp_path / odd).write_text("x")
    made = task("true", inputs=(f"in={odd}",), outputs=(f"out={odd}",))
    assert made["inputs"][0]["path"] == f"/data/inputs/in/{odd}"
    assert made["outputs"][0]["path"] == "/data/outputs/out/a b#%_1]__ü.txt"
    assert made["inputs"][0]["url"] == made["outputs"][0]["url"]
    assert "%5B1%5D" in made["inputs"][0]["url"]


def test_the_directories_of_named_files_are_allowed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "dir", target_is_directory=True)
    made = compose(Wanted("true", inputs=("a=in.txt", "h=https://x/y"), input_directories=("l=link",)))
    assert made.roots == {str(tmp_path), str(tmp_path / "dir")}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"inputs": ("in",)}, "-i in: write it as -i NAME=PATH"),
        ({"inputs": ("1=in.txt",)}, "NAME as in shell variables"),
        ({"inputs": ("in=",)}, "write it as"),
        ({"inputs": ("in=none.txt",)}, "input in: there is no none.txt"),
        ({"inputs": ("in=dir",)}, "dir is a directory; name it with -I"),
        ({"input_directories": ("in=in.txt",)}, "in.txt is not a directory; name it with -i"),
        ({"inputs": ("x=in.txt",), "outputs": ("x=y",)}, "the name x is already taken"),
        ({"inputs": ("PATH=in.txt",)}, "the shell needs PATH itself"),
        ({"outputs": ("stdout=x",), "stdout": "y"}, "the name stdout is needed for --stdout"),
        ({"env": ("A",)}, "-e A: write it as -e KEY=VALUE"),
        ({"tags": ("=v",)}, "--tag =v: write it as"),
        ({"contents": ("c=none",)}, "content c: cannot read none: No such file"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandError) as caught:
        compose(Wanted("true", **options))
    assert sentence in str(caught.value)
    assert caught.value.code == 2


def test_content_must_be_text_and_small(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (128 * 1024 + 1))
    with pytest.raises(CommandError, match="not UTF-8 text; name it with -i"):
        compose(Wanted("true", contents=("c=binary",)))
    with pytest.raises(CommandError, match="larger than 128 KiB; name it with -i"):
        compose(Wanted("true", contents=("c=large",)))


@pytest.mark.parametrize("command", ["", "  ", "'open"])
def test_a_command_that_is_none_is_refused(command: str) -> None:
    with pytest.raises(CommandError):
        compose(Wanted(command, shell=False))


def test_print_shows_the_task_and_runs_nothing(call: Call, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("x")
    result = call("run", "cat $in > $out", "-i", "in=in.txt", "-o", "out=o.txt", "--print", "-c", "alpine")
    assert result.code == 0
    made = json.loads(result.out)
    assert made["executors"][0]["image"] == "alpine"
    assert not (tmp_path / "o.txt").exists()


def test_a_server_needs_an_image(call: Call) -> None:
    result = call("run", "true", "--server", "http://127.0.0.1:9")
    assert (result.code, result.out) == (2, "")
    assert result.err == "tesk: a server needs --image: which container should the command run in?\n"
