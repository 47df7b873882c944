"""Executors: argv, order, failure, and what the log says of them."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from tests.behaviour.sites import Site, sentences

ODD = ["two words", "", "'single'", '"double"', "$HOME $(id) `id`", "back\\slash", "line\nbreak", "ü", "-rf", "*", "--"]


def need_busybox(site: Site) -> None:
    """Skip where the machine's own programs are used, and busybox is none of them."""
    if site.place.image == "not-used" and shutil.which("busybox") is None:
        pytest.skip("busybox is not installed (Debian: apt-get install busybox-static)")


def test_argv_and_environment_arrive_exactly(site: Site) -> None:
    task = site.run(
        site.task(
            *("sh", "-c", 'for one; do printf "%s|" "$one"; done; printf "%s" "$ODD"', "sh", *ODD),
            env={"ODD": "a=b\n'c' \"d\" $(e)"},
        )
    )
    assert task["logs"][0]["logs"][0]["stdout"] == "|".join(ODD) + "|a=b\n'c' \"d\" $(e)"


def test_arguments_and_variables_may_be_as_long_as_linux_allows(site: Site) -> None:
    longest = (128 << 10) - 1  # execve(2): of each string, with its end
    script = 'echo "${#1} ${#LONG} $#"; printf %s "$1$LONG" | md5sum'
    argument, value = "a" * longest, "b" * (longest - len("LONG="))
    task = site.run(site.task("sh", "-c", script, "sh", argument, "", env={"LONG": value}))
    assert task["state"] == "COMPLETE", sentences(task)
    digest = hashlib.md5((argument + value).encode()).hexdigest()
    assert task["logs"][0]["logs"][0]["stdout"] == f"{len(argument)} {len(value)} 2\n{digest}  -\n"


def test_an_argument_that_linux_does_not_take_is_told(site: Site) -> None:
    if not site.place.admits:
        pytest.skip("on a cluster the container's runtime tells it, in words of its own")
    task = site.run(site.task("true", "a" * (128 << 10)))
    assert task["state"] == "EXECUTOR_ERROR"
    assert task["logs"][0]["logs"][0]["exit_code"] == 126
    assert "longer than Linux allows" in sentences(task)


def test_an_image_needs_no_shell_and_nothing_else(site: Site) -> None:
    image = site.place.bare_image
    if image is None:
        pytest.skip("a cluster's node holds the image with all programs only; tests/kube has bare ones")
    need_busybox(site)
    text = "no $HOME;\n'exactly' \\ \"this\""
    task = site.run(
        site.task(
            *("busybox", "printf", "%s", text, ""),
            image=image,
            workdir="/work/deep",
            stdout="/out/said",
            outputs=[{"url": f"{site.files}/said", "path": "/out/said"}],
        )
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert (site.files / "said").read_text() == task["logs"][0]["logs"][0]["stdout"] == text
    missing = site.run(site.task("no-such-command", image=image))
    assert missing["logs"][0]["logs"][0]["exit_code"] == 127
    assert "the command 'no-such-command' was not found" in sentences(missing)


def test_users_of_images_share_the_tasks_files(site: Site) -> None:
    image = site.place.user_image
    if image is None:
        pytest.skip("a cluster's node holds the image whose user is root only; tests/kube has others")
    if site.place.shares:
        site.files.chmod(0o777)
    write = (
        "id -u; cat /in/text; echo x >/data/all; chmod 666 /data/all; umask 077; mkdir /data/own; echo own >/data/own/f"
    )
    task = site.run(
        {
            "inputs": [{"content": "read\n", "path": "/in/text"}],
            "volumes": ["/vol"],
            "executors": [
                {"image": image, "command": ["sh", "-c", f"{write}; echo kept >/vol/kept"], "stderr": "/log/errors"},
                {"image": site.place.image, "command": ["sh", "-c", "id -u; cat /vol/kept; echo y >>/data/all"]},
            ],
            "outputs": [
                {"url": f"{site.files}/out", "path": "/data", "type": "DIRECTORY"},
                {"url": f"{site.files}/errors", "path": "/log/errors"},
            ],
        }
    )
    assert task["state"] == "COMPLETE", sentences(task)
    first, second = (one["stdout"].split() for one in task["logs"][0]["logs"])
    assert first[1:] == ["read"]
    assert second[1:] == ["kept"]
    assert (first[0], second[0]) == ("1234", "0") or site.place.image == "not-used"
    assert (site.files / "out/own/f").read_text() == "own\n"
    assert (site.files / "out/all").read_text() == "x\ny\n"
    assert (site.files / "errors").read_text() == ""


def test_command_is_the_whole_argv_whatever_the_entrypoint(site: Site) -> None:
    task = site.run(site.task("echo", "only this"))
    assert task["logs"][0]["logs"][0]["stdout"] == "only this\n"


def test_docker_prefixes_are_understood(site: Site) -> None:
    task = site.run(site.task("true", image=f"docker://{site.place.image}"))
    assert task["state"] == "COMPLETE", sentences(task)


@pytest.mark.parametrize("code", [1, 3, 255])
def test_an_exit_code_ends_the_task_and_is_told(site: Site, code: int) -> None:
    task = site.run(site.shell(f"exit {code}"))
    assert task["state"] == "EXECUTOR_ERROR"
    assert task["logs"][0]["logs"][0]["exit_code"] == code
    assert f"executor 0 ended with exit code {code}" in sentences(task)


@pytest.mark.parametrize("number", [9, 11, 15])
def test_a_signal_is_told_as_such(site: Site, number: int) -> None:
    # Not the first process, which the kernel shields where the command itself is process 1.
    task = site.run(site.shell(f"sh -c 'kill -{number} $$'; exit $?"))
    assert task["state"] == "EXECUTOR_ERROR"
    assert task["logs"][0]["logs"][0]["exit_code"] == 128 + number
    assert f"was ended by signal {number}" in sentences(task)


def test_a_command_that_does_not_exist_is_named(site: Site) -> None:
    task = site.run(site.task("no-such-command", "x"))
    assert task["state"] == "EXECUTOR_ERROR"
    assert task["logs"][0]["logs"][0]["exit_code"] == 127
    assert "the command 'no-such-command' was not found" in sentences(task)


def test_executors_run_in_order_and_stop_at_the_first_error(site: Site) -> None:
    def say(number: int, code: int) -> dict[str, object]:
        return {"image": site.place.image, "command": ["sh", "-c", f"echo {number} >>/vol/said; exit {code}"]}

    task = site.run(
        {
            "volumes": ["/vol"],
            "executors": [say(0, 0), say(1, 4), say(2, 0)],
            "outputs": [{"url": f"{site.files}/said", "path": "/vol/said"}],
        }
    )
    assert task["state"] == "EXECUTOR_ERROR"
    assert [one["exit_code"] for one in task["logs"][0]["logs"]] == [0, 4]
    assert (site.files / "said").read_text() == "0\n1\n", "outputs are delivered also after a failure"


def test_ignore_error_goes_on_and_keeps_the_exit_code(site: Site) -> None:
    task = site.run(
        {
            "executors": [
                {"image": site.place.image, "command": ["sh", "-c", "exit 9"], "ignore_error": True},
                {"image": site.place.image, "command": ["echo", "went on"]},
            ]
        }
    )
    assert task["state"] == "COMPLETE"
    assert [one["exit_code"] for one in task["logs"][0]["logs"]] == [9, 0]
    assert task["logs"][0]["logs"][1]["stdout"] == "went on\n"


def test_times_are_in_order_and_carry_a_zone(site: Site) -> None:
    task = site.run(site.task("true"))
    log = task["logs"][0]
    times = [
        task["creation_time"],
        log["start_time"],
        log["logs"][0]["start_time"],
        log["logs"][0]["end_time"],
        log["end_time"],
    ]
    assert times == sorted(times)
    assert all(one.endswith("Z") for one in times)


def test_streams_are_kept_apart_and_bounded(site: Site) -> None:
    # In lines so long that a node, which stamps each, does not rotate its log meanwhile.
    line = "0123456789" * 10
    task = site.run(site.shell(f"echo head; yes {line} | head -c 3000000; echo tail; echo err >&2"))
    log = task["logs"][0]["logs"][0]
    assert log["stderr"] == "err\n"
    assert log["stdout"].startswith("head\n")
    assert log["stdout"].endswith("tail\n")
    assert len(log["stdout"].encode()) < 70_000
    assert "bytes left out" in log["stdout"]


def test_an_image_that_does_not_exist_is_named(site: Site) -> None:
    task = site.run(site.task("true", image="localhost/no-such-image:1"))
    if site.place.missing_image is None:
        assert task["state"] == "COMPLETE", "images are noted and not used here"
        assert "image was noted and not used" in sentences(task)
    else:
        assert task["state"] == "SYSTEM_ERROR"
        assert site.place.missing_image in sentences(task)
        assert "localhost/no-such-image:1" in sentences(task)
        assert task["logs"][0]["logs"] == []


def test_the_machine_survives_rm_rf(site: Site) -> None:
    task = site.run(site.shell("rm -rf /etc /home /bin/* /data/* 2>/dev/null; true"))
    assert task["state"] in ("COMPLETE", "EXECUTOR_ERROR")
    again = site.run(site.task("echo", "fine"))
    assert again["logs"][0]["logs"][0]["stdout"] == "fine\n"


def test_a_command_that_writes_into_its_own_stdout_file_has_each_line_once(site: Site) -> None:
    """As Cromwell's script does with tee."""
    url = f"file://{site.files}/out"
    script = "for n in 1 2 3; do echo $n; done | tee /out/stdout"
    task = site.run(site.shell(script, stdout="/out/stdout", outputs=[{"url": url, "path": "/out/stdout"}]))
    assert task["state"] == "COMPLETE", sentences(task)
    assert (site.files / "out").read_text() == "1\n2\n3\n"


def test_one_file_for_both_streams_holds_both(site: Site) -> None:
    url = f"file://{site.files}/both"
    script = "echo out; echo err >&2; echo out"
    task = site.run(
        site.shell(script, stdout="/out/both", stderr="/out/both", outputs=[{"url": url, "path": "/out/both"}])
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert sorted((site.files / "both").read_text().split()) == ["err", "out", "out"]
