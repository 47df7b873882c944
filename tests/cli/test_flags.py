"""Options that stand in files: heredocs, flag files, rows and tables of `--scatter`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.command import Call, Result


@pytest.fixture(autouse=True)
def _files(call: Call, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "with space.txt"):
        (tmp_path / name).write_text(name)


def printed(result: Result) -> list[dict[str, Any]]:
    """The tasks that `--print` shows."""
    assert result.code == 0, result.err
    decoder, text, found = json.JSONDecoder(), result.out.strip(), []
    while text:
        task, end = decoder.raw_decode(text)
        found.append(task)
        text = text[end:].strip()
    return found


def urls(task: dict[str, Any]) -> list[str]:
    return [one["url"].rsplit("/", 1)[-1] for one in task["inputs"]]


def test_every_option_of_funnels_run_is_understood(call: Call, tmp_path: Path) -> None:
    (tmp_path / "flags").write_text(
        """
        --container myorg/prog            # Funnel's word for --image
        --name 'MyProg test' --description 'many arguments'
        --tag meta=val --in file1=a.txt --in-dir dir1=.
        --contents text=b.txt
        --stdout out.txt --stderr err.txt
        --env argA=1 -e argB=2
        --vol /one --vol /opt/two -w /work
        --cpu 8 --ram 32 --disk 100
        --preemptible --zone us-west1-a --zone us-west1-b
        """
    )
    (task,) = printed(call("run", "prog -a $argA -i $file1 -d $dir1", "--flags", "flags", "-p"))
    executor = task["executors"][0]
    assert (task["name"], task["description"], task["tags"]) == ("MyProg test", "many arguments", {"meta": "val"})
    assert (executor["image"], executor["workdir"]) == ("myorg/prog", "/work")
    assert {"argA", "argB", "file1", "dir1", "text"} == set(executor["env"])
    assert task["volumes"] == ["/one", "/opt/two"]
    zones = ["us-west1-a", "us-west1-b"]
    assert task["resources"] == {"cpu_cores": 8, "ram_gb": 32, "disk_gb": 100, "preemptible": True, "zones": zones}
    assert [one["name"] for one in task["inputs"]] == ["file1", "dir1", "text"]


def test_a_heredoc_holds_the_command_and_its_options(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"'cat $in; echo $V'\n  --in in=a.txt  # the input\n  -e V='hello world'\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    (task,) = printed(call("run", "-", "-c", "alpine", "--print"))
    assert task["executors"][0]["command"][-1] == "cat $in; echo $V"
    assert task["executors"][0]["env"]["V"] == "hello world"
    assert urls(task) == ["a.txt"]


def test_the_command_line_wins_over_a_file_of_flags_and_lists_are_joined(call: Call, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("--cpu 2 --name file --tag a=1")
    (task,) = printed(call("run", "true", "--flags=f", "--cpu", "4", "--tag", "b=2", "--print"))
    assert (task["resources"], task["name"], task["tags"]) == ({"cpu_cores": 4}, "file", {"a": "1", "b": "2"})


def test_a_dash_that_is_an_options_value_is_not_standard_input(call: Call) -> None:
    (task,) = printed(call("run", "true", "--name", "-", "--print"))
    assert task["name"] == "-"


def test_each_row_extends_the_commands_options(call: Call, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(
        "-i in=a.txt --tag row=1\n\n# a comment\n-i 'in=with space.txt' --cpu 2 -n second --exec\n"
    )
    one, two = printed(call("run", "wc $in", "--scatter", "rows", "--tag", "all=x", "--cpu", "1", "--print"))
    assert (urls(one), one["tags"], one["resources"]) == (["a.txt"], {"all": "x", "row": "1"}, {"cpu_cores": 1})
    assert (urls(two), two["name"], two["resources"]) == (["with%20space.txt"], "second", {"cpu_cores": 2})
    assert one["executors"][0]["command"][0] == "/bin/sh"
    assert two["executors"][0]["command"] == ["wc", "/data/inputs/in/with space.txt"]


def test_a_row_may_hold_the_command_itself(call: Call, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("'echo one'\n'echo two' -n named\n")
    assert [one["name"] for one in printed(call("run", "--scatter", "rows", "--print"))] == ["echo one", "named"]


def test_a_table_names_an_option_in_each_column(call: Call, tmp_path: Path) -> None:
    (tmp_path / "samples.tsv").write_text("-i in\t--cpu\t--tag sample\na.txt\t2\tA 1\nwith space.txt\t\t\n")
    one, two = printed(call("run", "wc $in", "--scatter", "samples.tsv", "--print"))
    assert (urls(one), one["tags"], one["resources"]) == (["a.txt"], {"sample": "A 1"}, {"cpu_cores": 2})
    assert urls(two) == ["with%20space.txt"]
    assert "tags" not in two
    assert "resources" not in two


def test_all_rows_are_checked_before_the_first_is_sent(call: Call, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(
        "-i in=a.txt\n-i in=nope\n--server http://x\n--bogus 1\n-e A\n--cpu many\n--print\n--help\n"
    )
    result = call("run", "true", "--scatter", "rows", "--server", "http://127.0.0.1:9", "-c", "alpine")
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert lines[-1] == "tesk: nothing was sent"
    places = [line.split(" ")[1] for line in lines[:-1]]
    assert places == [f"rows:{number}:" for number in range(2, 9)]
    for sentence in (
        "there is no nope",
        "--server cannot differ",
        "No such option: --bogus",
        "write it as -e KEY=VALUE",
    ):
        assert sentence in result.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "--scatter: cannot read rows: No such file or directory"),
        ("\n# nothing\n", "--scatter: rows holds no row"),
        ("-i in\t--cpu\n", "--scatter: rows holds a header and no row"),
        ("-i in\t--cpu\na.txt\n", "rows:2: has 1 columns where the header has 2"),
        ("-n ok\n-n 'open\n-n \"too\n", "rows:2: No closing quotation\ntesk: rows:3: No closing quotation"),
    ],
)
def test_a_file_of_rows_that_cannot_be_read_is_told(
    call: Call, tmp_path: Path, text: str | None, sentence: str
) -> None:
    if text is not None:
        (tmp_path / "rows").write_text(text)
    result = call("run", "true", "--scatter", "rows")
    assert (result.code, result.err) == (2, f"tesk: {sentence}\n")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "there is no command"),
        (["true", "--no-wait"], "--no-wait needs a server"),
        (["true", "--wait-for", "x"], "--wait-for needs a server"),
        (["true", "--flags", "nope"], "--flags: cannot read nope"),
        (["true", "--flags"], "--flags needs the name of a file"),
        (["true", "-c", "x", "--profile", "nope"], "there is no profile 'nope'"),
    ],
)
def test_what_cannot_be_meant_is_told(call: Call, args: list[str], sentence: str) -> None:
    result = call("run", *args)
    assert result.code == 2
    assert sentence in result.err
