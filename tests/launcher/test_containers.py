"""The same command in the same container, with the launcher and without: podman is the measure."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.images import find_debian, load_busybox, load_program, need_podman
from tests.launcher.runner import ODD, Ran, read_log


@dataclass
class Containers:
    """Runs one command at a time in containers of `image`, with the launcher at /.tesk/launcher."""

    image: str
    launcher: Path
    directory: Path
    numbers: Any = field(default_factory=itertools.count)

    def argv(self, command: Sequence[str], options: Sequence[str]) -> list[str | Path]:
        """One `podman run`."""
        name = f"--name=tesk-launcher-{os.getpid()}-{self.directory.name}-{next(self.numbers)}"
        fixed = ["--rm", "--network=none", "--log-driver=none", "--hostname=here", "--entrypoint=", name]
        return ["podman", "run", *fixed, *options, self.image, *command]

    def plain(self, *command: str, options: Sequence[str] = ()) -> tuple[int, bytes, bytes]:
        """Exit code, stdout and stderr of the command by itself."""
        done = subprocess.run(self.argv(command, options), capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def launched(self, *command: str, given: Sequence[str] = (), options: Sequence[str] = ()) -> Ran:
        """The command through the launcher, which is `given` options of its own."""
        end = self.directory / f"end-{next(self.numbers)}"
        end.touch(0o666)
        end.chmod(0o666)
        volumes = [f"--volume={self.launcher}:/.tesk/launcher:ro", f"--volume={end}:/dev/termination-log"]
        argv = self.argv(["/.tesk/launcher", *given, "--", *command], [*volumes, *options])
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
        return read_log(done.returncode, done.stdout, end.read_text())

    def assert_same(self, *command: str, options: Sequence[str] = ()) -> Ran:
        """The command ends and writes the same, with the launcher and without."""
        ran = self.launched(*command, options=options)
        assert (ran.code, ran.stdout, ran.stderr) == self.plain(*command, options=options)
        assert ran.end is not None
        assert ran.end.exit_code == ran.code
        return ran


@pytest.fixture
def bare(launcher: Path, probe: Path, tmp_path: Path) -> Containers:
    """An image with the probe and nothing else."""
    need_podman()
    return Containers(load_program(probe, tmp_path), launcher, tmp_path)


@pytest.fixture(params=["busybox", "debian"])
def shell(request: pytest.FixtureRequest, launcher: Path, tmp_path: Path) -> Containers:
    """Images with a shell."""
    image = load_busybox(tmp_path)
    return Containers(image if request.param == "busybox" else find_debian(), launcher, tmp_path)


def test_an_image_without_shell_and_libc_will_do(bare: Containers) -> None:
    environment = ["--env=ODD=a=b\n'c' \"d\" $(e)", "--env=EMPTY="]
    ran = bare.launched("probe", *ODD, options=environment)
    _, plain, _ = bare.plain("probe", *ODD, options=environment)
    # podman's own process 1 leads no session of its own making, and inherits what podman ignores.
    assert ran.stdout.partition(b"leads")[0] == plain.partition(b"leads")[0]
    assert b"directory /made/by the image\n" in ran.stdout
    assert b"files 3\n" in ran.stdout


def test_a_read_only_root_another_user_and_one_process_will_do(bare: Containers) -> None:
    options = ["--read-only", "--user=1234:99", "--pids-limit=2", "--cap-drop=all", "--workdir=/bin"]
    ran = bare.launched("probe", "x", options=options)
    assert b"user 1234 99\n" in ran.stdout
    assert b"directory /bin\n" in ran.stdout
    assert ran.code == 0
    assert ran.end is not None, "Kubernetes' file for it can be written by every user"


@pytest.mark.parametrize("user", ["0", "1234"])
def test_the_command_cannot_reach_into_process_1(bare: Containers, user: str) -> None:
    ran = bare.launched("probe", "reach", options=[f"--user={user}"])
    places = ["/proc/1/fd/1", "/proc/1/mem", "/proc/1/environ"]
    assert ran.stdout.decode() == "".join(f"{one} Permission denied\n" for one in places) + "and it lives\n"


def test_no_process_left_is_told(bare: Containers) -> None:
    ran = bare.launched("probe", options=["--pids-limit=1"])
    assert ran.code == 126
    assert ran.end is not None
    assert ran.end.fault == "no process can be started: Resource temporarily unavailable"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["probe", "exit", "0"],
        ["probe", "exit", "255"],
        ["probe", "both"],
        ["/bin/probe", "cat"],
    ],
)
def test_a_bare_image_gives_what_podman_gives(bare: Containers, command: list[str]) -> None:
    bare.assert_same(*command)


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "echo out; echo err >&2; exit 7",
        "exit 126",
        "exit 127",
        "exit 128",
        "sh -c 'kill -9 $$'; exit $?",
        "printf 'no newline'; printf 'here neither' >&2",
        "printf '\\377\\000a\\r\\n\\n'",
        "yes 0123456789 | head -c 3000000; yes | head -c 3000000 >&2",
        "cat; pwd; id -u; env | sort",
        "echo '$(HOME) $(VAR)' \"$HOME\"",
        "touch /made; ls /made",
        "sleep 300 & echo done",
        "cat /proc/self/limits /proc/self/cgroup >/dev/null; umask; ulimit -n",
    ],
)
def test_a_script_gives_what_podman_gives(shell: Containers, script: str) -> None:
    shell.assert_same("sh", "-c", script, options=["--env=VAR=x\ny"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["--user=1234:99"], ["--read-only"], ["--workdir=/usr"], ["--read-only", "--user=65534", "--cap-drop=all"]],
    ids=" ".join,
)
def test_a_container_of_another_kind_gives_what_podman_gives(shell: Containers, options: list[str]) -> None:
    shell.assert_same(
        "sh", "-c", "id -u; id -g; pwd; touch /made; mkdir /tmp/x && ls -ld /tmp/x | cut -c1-10", options=options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code"), [("no-such-command", 127), ("/no/such", 127), ("/etc/passwd", 126), ("/home", 126)]
)
def test_a_command_that_cannot_run_has_podmans_code(shell: Containers, command: str, code: int) -> None:
    assert shell.plain(command)[0] == code
    ran = shell.launched(command)
    assert ran.code == code
    assert ran.end is not None
    assert f"the command '{command}'" in str(ran.end.problem)


@pytest.mark.slow
def test_redirects_belong_to_the_containers_user(shell: Containers, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    scratch.chmod(0o777)
    (scratch / "in").write_text("from stdin\n")
    paths = ["--stdin", "/data/in", "--stdout", "/data/out", "--stderr", "/data/err", "--workdir", "/data/sub dir"]
    options = ["--user=1234:99", f"--volume={scratch}:/data"]
    ran = shell.launched("sh", "-c", "cat; pwd >&2", given=paths, options=options)
    assert (ran.code, ran.stdout, ran.stderr) == (0, b"from stdin\n", b"/data/sub dir\n")
    assert (scratch / "out").read_bytes() == ran.stdout
    assert (scratch / "err").read_bytes() == ran.stderr
    assert [(one.st_uid, one.st_gid) for one in map(os.stat, scratch.glob("[oe]*"))] == [(1234, 99)] * 2


@pytest.mark.slow
def test_memory_that_runs_out_is_told(bare: Containers) -> None:
    limit = ["--memory=32m", "--memory-swap=32m"]
    ran = bare.launched("probe", "eat", "200", options=limit)
    assert ran.code == 137
    if ran.end is None:
        return  # cgroup v2 with a kernel that ends the whole container: podman tells
    assert ran.end.oom
    ran = bare.launched("probe", "die", "9", options=limit)
    assert ran.code == 137
    assert ran.end is not None
    assert not ran.end.oom, "a signal alone is not want of memory"


@pytest.mark.slow
def test_stop_is_heard(shell: Containers) -> None:
    name = f"tesk-launcher-stop-{os.getpid()}"
    script = "trap 'echo stopped; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    options = [f"--volume={shell.launcher}:/.tesk/launcher:ro", f"--name={name}"]
    argv = shell.argv(["/.tesk/launcher", "--", "sh", "-c", script], options)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"O ready\n"
        started = time.monotonic()
        subprocess.run(["podman", "stop", "-t", "60", name], check=True, capture_output=True)
        assert time.monotonic() - started < 30
        # The shell may say of its sleep, too, that it was terminated.
        assert b"O stopped\n" in process.stdout.readlines()
    assert process.returncode == 3
