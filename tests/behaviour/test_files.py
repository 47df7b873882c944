"""Files in, files out: on every backend the same."""

from __future__ import annotations

import os
import stat
from typing import Any

from tests.behaviour.sites import Site, sentences


def outputs(task: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """path: (url, size) of each delivered file."""
    return {one["path"]: (one["url"], one["size_bytes"]) for one in task["logs"][-1]["outputs"]}


def test_a_file_goes_in_and_a_file_comes_out(site: Site) -> None:
    (site.files / "in.txt").write_text("hello\n")
    out = site.files / "made/by/tesk/out.txt"
    task = site.run(
        site.shell(
            "tr a-z A-Z </data/in.txt >/data/out.txt",
            inputs=[{"url": f"file://{site.files}/in.txt", "path": "/data/in.txt"}],
            outputs=[{"url": f"file://{out}", "path": "/data/out.txt"}],
        )
    )
    assert task["state"] == "COMPLETE", task
    assert out.read_text() == "HELLO\n"
    assert outputs(task) == {"/data/out.txt": (f"file://{out}", "6")}
    assert site.place.shares or out.stat().st_uid == os.getuid()
    assert task["outputs"][0]["type"] == task["inputs"][0]["type"] == "FILE"


def test_the_type_of_an_output_is_filled_in_once_it_is_known(site: Site) -> None:
    """TES 1.1.0 `tesFileType`."""
    task = site.run(
        site.shell(
            "mkdir -p /data/dir; echo x >/data/dir/x; echo y >/data/file",
            inputs=[{"content": "secret", "path": "/data/in"}],
            outputs=[{"url": f"{site.files}/{name}", "path": f"/data/{name}"} for name in ("dir", "file")],
        )
    )
    assert task["state"] == "COMPLETE", task
    assert [one["type"] for one in task["outputs"]] == ["DIRECTORY", "FILE"]
    assert task["inputs"][0]["content"] == "secret"
    assert (site.files / "dir/x").read_text() == "x\n"


def test_the_source_of_an_input_is_never_changed(site: Site) -> None:
    source = site.files / "in.txt"
    source.write_text("original")
    task = site.run(
        site.shell("echo changed >/data/in.txt; rm /data/in.txt", inputs=[{"url": str(source), "path": "/data/in.txt"}])
    )
    assert task["state"] == ("EXECUTOR_ERROR" if site.place.shares else "COMPLETE")
    assert source.read_text() == "original"


def test_content_is_written_and_wins_over_a_url(site: Site) -> None:
    text = "tab\tümlaut 'quotes' $HOME\nno newline at the end"
    task = site.run(
        site.shell("cat /data/in", inputs=[{"content": text, "url": "file:///nowhere/at/all", "path": "/data/in"}])
    )
    assert task["logs"][0]["logs"][0]["stdout"] == text


def test_a_script_given_as_content_can_be_run_by_a_shell(site: Site) -> None:
    task = site.run(
        site.task("sh", "/work/script.sh", "a b", inputs=[{"content": 'echo "got $1"\n', "path": "/work/script.sh"}])
    )
    assert task["logs"][0]["logs"][0]["stdout"] == "got a b\n"


def test_an_executable_input_stays_executable(site: Site) -> None:
    script = site.files / "tool"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    task = site.run(site.task("/tools/tool", inputs=[{"url": str(script), "path": "/tools/tool"}]))
    assert task["logs"][0]["logs"][0]["stdout"] == "ran\n"


def test_directories_go_in_and_come_out_whole(site: Site) -> None:
    source = site.files / "tree"
    (source / "deep/er").mkdir(parents=True)
    (source / "a").write_text("1")
    (source / "deep/er/b").write_text("22")
    target = site.files / "copy"
    task = site.run(
        site.shell(
            "cp -r /in/. /out/ && mkdir /out/empty",
            inputs=[{"url": f"file://{source}", "path": "/in", "type": "DIRECTORY"}],
            outputs=[{"url": f"file://{target}/", "path": "/out", "type": "DIRECTORY"}],
        )
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert (target / "a").read_text() == "1"
    assert (target / "deep/er/b").read_text() == "22"
    assert (target / "empty").is_dir()
    assert outputs(task) == {
        "/out/a": (f"file://{target}/a", "1"),
        "/out/deep/er/b": (f"file://{target}/deep/er/b", "2"),
    }


def test_wildcards_take_what_posix_says_and_prune_the_prefix(site: Site) -> None:
    target = site.files / "found"
    task = site.run(
        site.shell(
            "mkdir -p sub && touch a1.txt a2.txt b1.txt .hidden.txt sub/a3.txt '[x].txt'",
            workdir="/work",
            volumes=["/work"],
            outputs=[
                {"url": str(target), "path": "/work/a?.txt", "path_prefix": "/work"},
                {"url": str(target / "all"), "path": "/work/*/a[0-9].txt", "path_prefix": "/work"},
            ],
        )
    )
    assert task["state"] == "COMPLETE", sentences(task)
    found = sorted(str(one.relative_to(target)) for one in target.rglob("*") if one.is_file())
    if not site.place.shares:  # there the rest stays where it was written
        assert found == ["a1.txt", "a2.txt", "all/sub/a3.txt"]
    assert sorted(url for url, _ in outputs(task).values()) == [
        f"{target}/{one}" for one in ("a1.txt", "a2.txt", "all/sub/a3.txt")
    ]
    assert {"a1.txt", "a2.txt", "all/sub/a3.txt"} <= set(found)


def test_an_output_that_is_a_link_is_delivered_as_what_it_leads_to(site: Site) -> None:
    task = site.run(
        site.shell(
            "echo real >/data/real; ln -s /data/real /data/absolute; ln -s real /data/relative",
            outputs=[
                {"url": f"{site.files}/absolute", "path": "/data/absolute"},
                {"url": f"{site.files}/relative", "path": "/data/relative"},
            ],
        )
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert (site.files / "absolute").read_text() == (site.files / "relative").read_text() == "real\n"


def test_a_link_never_leads_out_of_the_task(site: Site) -> None:
    secret = site.directory / "secret"
    secret.write_text("secret")
    task = site.run(
        site.shell(
            f"ln -s {secret} /data/a; ln -s /etc/passwd /data/b",
            outputs=[{"url": f"{site.files}/a", "path": "/data/a"}, {"url": f"{site.files}/b", "path": "/data/b"}],
        )
    )
    assert task["state"] == "SYSTEM_ERROR"
    assert "/data/a" in sentences(task)
    assert list(site.files.iterdir()) == []


def test_a_single_file_is_mounted_over_an_images_directory(site: Site) -> None:
    task = site.run(
        site.shell(
            "cat /etc/tesk-test.conf; cat /etc/passwd", inputs=[{"content": "x=1\n", "path": "/etc/tesk-test.conf"}]
        )
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert task["logs"][0]["logs"][0]["stdout"].startswith("x=1\nroot:")


def test_volumes_start_empty_and_are_shared_by_executors(site: Site) -> None:
    task = site.run(
        {
            "volumes": ["/vol"],
            "executors": [
                {"image": site.place.image, "command": ["sh", "-c", "ls -A /vol; echo one >/vol/f"]},
                {"image": site.place.image, "command": ["cat", "/vol/f"]},
            ],
        }
    )
    assert [one["stdout"] for one in task["logs"][0]["logs"]] == ["", "one\n"]


def test_streams_are_redirected_to_files_that_the_next_executor_reads(site: Site) -> None:
    task = site.run(
        {
            "executors": [
                {
                    "image": site.place.image,
                    "command": ["sh", "-c", "echo out; echo err >&2"],
                    "stdout": "/streams/out",
                    "stderr": "/streams/err",
                },
                {"image": site.place.image, "command": ["tr", "a-z", "A-Z"], "stdin": "/streams/out"},
            ],
            "outputs": [{"url": f"{site.files}/err", "path": "/streams/err"}],
        }
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert [one["stdout"] for one in task["logs"][0]["logs"]] == ["out\n", "OUT\n"]
    assert (site.files / "err").read_text() == "err\n"


def test_one_file_may_go_to_two_places_and_the_same_path_twice(site: Site) -> None:
    task = site.run(
        site.shell(
            "echo x >/work/log",
            workdir="/work",
            outputs=[
                {"url": f"{site.files}/one", "path": "/work/log"},
                {"url": f"{site.files}/two", "path": "/work/log"},
                {"url": f"{site.files}/dir/", "path": "/work", "type": "DIRECTORY"},
            ],
        )
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert all((site.files / one).read_text() == "x\n" for one in ("one", "two", "dir/log"))


def test_names_that_look_like_options_and_patterns_are_only_names(site: Site) -> None:
    names = ["-rf", "a b", "*", "$(id)", "'", "new\\nline", "ü"]
    script = "\n".join(f'printf %s {i} >"./$(printf \'%s\' "$N{i}")"' for i in range(len(names)))
    task = site.run(
        site.shell(
            script,
            workdir="/work",
            env={f"N{i}": name for i, name in enumerate(names)},
            outputs=[{"url": f"{site.files}/out", "path": "/work", "type": "DIRECTORY"}],
        )
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert {one.name: one.read_text() for one in (site.files / "out").iterdir()} == {
        name: str(i) for i, name in enumerate(names)
    }


def test_delivered_files_are_readable_as_the_servers_user_makes_them(site: Site) -> None:
    task = site.run(site.shell("umask 077; echo x >/data/f", outputs=[{"url": f"{site.files}/f", "path": "/data/f"}]))
    assert task["state"] == "COMPLETE", sentences(task)
    assert stat.S_IMODE((site.files / "f").stat().st_mode) & 0o600 == 0o600
