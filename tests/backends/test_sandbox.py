"""The sandbox: what a command sees, what it cannot touch, how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tesk.backends.local.sandbox import root
from tesk.plan.model import Mount
from tesk.taskmaster.steps import AttemptLost, StepFailed

from .conftest import Runner

ODD = ["two words", "", "'single'", '"double"', "$HOME", "back\\slash", "line\nbreak", "ünïcode", "-rf", "*"]


def processes(marker: str) -> list[int]:
    """The processes of this machine whose command line holds `marker`."""
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                if marker.encode() in (one / "cmdline").read_bytes():
                    found.append(int(one.name))
            except OSError:
                continue
    return found


async def test_streams_and_exit_code_come_through(sandbox: Runner) -> None:
    ran = await sandbox("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ran.stdout, ran.stderr, ran.exit.exit_code) == ("out\n", "err\n", 7)
    assert ran.exit.start_time <= ran.exit.end_time
    assert ran.exit.problem is None


async def test_memory_and_processor_time_are_counted(sandbox: Runner) -> None:
    script = "import time; x = bytearray(150 << 20); t = time.process_time()\nwhile time.process_time() < t + 0.2: pass"
    ran = await sandbox("sh", "-c", 'python3 -c "$0" & wait', script)
    assert ran.exit.usage is not None
    assert 150 << 20 <= ran.exit.usage.peak_memory_bytes < 400 << 20
    assert 200 <= ran.exit.usage.user_cpu_ms + ran.exit.usage.system_cpu_ms < 5000


async def test_argv_arrives_exactly(sandbox: Runner) -> None:
    ran = await sandbox("sh", "-c", 'for one; do printf "%s\\0" "$one"; done', "sh", *ODD)
    assert ran.stdout.split("\0")[:-1] == ODD


async def test_the_environment_is_the_tasks_alone(sandbox: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_SERVER", "x")
    ran = await sandbox("env", env={"NAME": "a\nb 'c'", "HOME": "/elsewhere"})
    assert "NAME=a\nb 'c'\n" in ran.stdout
    assert "HOME=/elsewhere\n" in ran.stdout
    assert "A_SECRET_OF_THE_SERVER" not in ran.stdout


@pytest.mark.parametrize(
    ("command", "code", "problem"),
    [
        (("no-such-command",), 127, "the command 'no-such-command' was not found on the PATH"),
        (("/no/such/command",), 127, "the command '/no/such/command' was not found"),
        (("/etc/passwd",), 126, "the command '/etc/passwd' cannot be executed: Permission denied"),
        (("/usr",), 126, "the command '/usr' is a directory"),
        (("sh", "-c", "kill -9 $$"), 137, None),
        (("sh", "-c", "kill -TERM $$"), 143, None),
        (("sh", "-c", "exit 255"), 255, None),
    ],
)
async def test_every_end_has_the_code_a_shell_would_give(
    sandbox: Runner, command: tuple[str, ...], code: int, problem: str | None
) -> None:
    ran = await sandbox(*command)
    assert ran.exit.exit_code == code
    assert ran.exit.problem == problem


async def test_a_script_whose_interpreter_is_missing_says_so(sandbox: Runner) -> None:
    job = sandbox.job("/data/script", mounts=["/data"])
    script = job.space.scratch / "data/script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    ran = await sandbox.run(job)
    assert ran.exit.exit_code == 127
    assert "interpreter" in str(ran.exit.problem)


async def test_redirects_write_the_tasks_own_files_and_the_log(sandbox: Runner) -> None:
    job = sandbox.job(
        "sh",
        "-c",
        "cat; echo err >&2",
        mounts=["/data"],
        stdin="/data/in",
        stdout="/data/out",
        stderr="/data/err",
    )
    (job.space.scratch / "data/in").write_text("from stdin\n")
    ran = await sandbox.run(job)
    assert (ran.scratch / "data/out").read_text() == ran.stdout == "from stdin\n"
    assert (ran.scratch / "data/err").read_text() == ran.stderr == "err\n"


async def test_a_missing_stdin_is_named(sandbox: Runner) -> None:
    ran = await sandbox("cat", mounts=["/data"], stdin="/data/none")
    assert ran.exit.exit_code == 126
    assert ran.exit.problem == "its stdin /data/none cannot be opened: No such file or directory"


async def test_binary_output_is_kept_and_shown_as_text(sandbox: Runner) -> None:
    ran = await sandbox("printf", r"\377\000a")
    assert ran.stdout == "\ufffd\x00a"


async def test_a_command_without_stdin_reads_nothing(sandbox: Runner) -> None:
    assert (await sandbox("cat")).stdout == ""


async def test_mounts_may_lie_where_the_machine_has_nothing(sandbox: Runner) -> None:
    places = ["/krzjDP", "/data/deep/er", "/var/lib/no/such/place", "/usr/share/none/x"]
    job = sandbox.job("sh", "-c", 'for d; do echo here >"$d/f"; done; ls /usr/bin/env', "sh", *places, mounts=places)
    ran = await sandbox.run(job)
    assert ran.stderr == ""
    for place in places:
        assert Path(f"{ran.scratch}{place}/f").read_text() == "here\n"
        assert not os.path.lexists(place)


async def test_a_single_file_is_mounted_over_and_beside_the_machines(sandbox: Runner) -> None:
    mounts = [
        Mount("/etc/hostname", "FILE", True),
        Mount("/etc/tesk-none.conf", "FILE", True),
        Mount("/in.txt", "FILE"),
    ]
    ran = await sandbox("cat", "/etc/hostname", "/etc/tesk-none.conf", "/in.txt", "/etc/passwd", mounts=mounts)
    assert ran.stdout.startswith("a single file\n" * 3)
    assert "root:" in ran.stdout
    assert not os.path.lexists("/etc/tesk-none.conf")


@pytest.mark.parametrize("path", ["/usr/x", "/x", "/etc/x", "/bin/x", "/in/x"])
async def test_the_machine_is_read_only(sandbox: Runner, path: str) -> None:
    ran = await sandbox("touch", path, mounts=[Mount("/in", "DIRECTORY", True)])
    assert ran.exit.exit_code != 0
    assert "Read-only file system" in ran.stderr
    assert not os.path.lexists(path)


@pytest.mark.slow
async def test_rm_rf_of_everything_harms_nothing(sandbox: Runner, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.write_text("still here")
    before = {one.name for one in os.scandir("/")}, {one.name for one in os.scandir("/etc")}
    # A few places instead of the whole tree, to be quick; then the root itself.
    ran = await sandbox(
        "sh", "-c", f"rm -rf /etc /usr/bin /var/tmp/* {tmp_path} /data/* /home /tmp/*; rm -rf /*/ 2>/dev/null; true",
        mounts=["/data"],
    )  # fmt: skip
    assert ran.exit.exit_code in (0, 127)
    assert ({one.name for one in os.scandir("/")}, {one.name for one in os.scandir("/etc")}) == before
    assert witness.read_text() == "still here"
    again = await sandbox("true")
    assert again.exit.exit_code == 0


async def test_homes_and_the_servers_own_directories_are_hidden(sandbox: Runner) -> None:
    secret = sandbox.state / "secret"
    secret.write_text("x")
    ran = await sandbox("sh", "-c", f"ls -A /root /home {Path.home()} {sandbox.state}; cat {secret}")
    assert "secret" not in ran.stdout
    assert ran.exit.exit_code != 0
    shown = await sandbox("ls", "-A", "/root", "/home")
    assert shown.stdout == "/home:\n\n/root:\n"


async def test_tmp_is_private_and_fresh(sandbox: Runner) -> None:
    probe = "find /tmp /var/tmp /dev/shm -mindepth 1; touch /tmp/a /var/tmp/b /dev/shm/c && stat -c %a /tmp"
    first, second = await sandbox("sh", "-c", probe), await sandbox("sh", "-c", probe)
    assert first.stdout == second.stdout == "1777\n"
    assert not Path("/tmp/a").exists()


async def test_processes_of_the_machine_are_not_seen(sandbox: Runner) -> None:
    ran = await sandbox("sh", "-c", "ls -d /proc/[0-9]* | wc -l; cat /proc/1/cmdline | tr '\\0' ' '")
    assert int(ran.stdout.split("\n")[0]) <= 6
    assert str(sandbox.state) not in ran.stdout


async def test_a_command_has_no_rights_beyond_a_users(sandbox: Runner) -> None:
    ran = await sandbox(
        "sh", "-c", "id -u; grep -E 'CapEff|CapPrm|NoNewPrivs' /proc/self/status; mount -t tmpfs x /data; umount /proc;"
        "kill -9 1; cat /proc/1/environ; ls /proc/1/fd; cat /etc/shadow; true",
        mounts=["/data"],
    )  # fmt: skip
    uid = int(ran.stdout.split()[0])
    assert uid == (os.getuid() or 65534)
    assert ran.stdout.split()[1:] == ["CapPrm:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert ran.exit.exit_code == 0
    assert ran.stderr.count("ermission denied") >= 3


async def test_links_in_scratch_cannot_lead_a_redirect_out(sandbox: Runner, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    victim.chmod(0o666)
    job = sandbox.job("echo", "overwritten", mounts=["/data"], stdout="/data/out")
    (job.space.scratch / "data/out").symlink_to(victim)
    ran = await sandbox.run(job)
    assert ran.exit.exit_code == 126
    assert "its stdout /data/out cannot be opened" in str(ran.exit.problem)
    assert victim.read_text() == "untouched"


async def test_workdir_is_used_and_made_where_it_is_missing(sandbox: Runner) -> None:
    assert (await sandbox("pwd", workdir="/usr")).stdout == "/usr\n"
    ran = await sandbox("sh", "-c", "pwd; touch x && ls", workdir="/not/there/yet")
    assert ran.stdout == "/not/there/yet\nx\n"
    job = sandbox.job("sh", "-c", "touch made-here", mounts=["/work"], workdir="/work")
    assert ((await sandbox.run(job)).scratch / "work/made-here").exists()


async def test_a_daemon_ends_with_its_executor(sandbox: Runner) -> None:
    ran = await sandbox("sh", "-c", "setsid sleep 86391 >/dev/null 2>&1 & sleep 86391 & echo done")
    assert ran.stdout == "done\n"
    assert processes("86391") == []


async def test_cancel_ends_the_whole_tree(sandbox: Runner) -> None:
    job = sandbox.job("sh", "-c", "trap '' TERM INT; setsid sleep 86392 & sleep 86392")
    task = asyncio.create_task(sandbox.run(job))
    while len(processes("86392")) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processes("86392") == []


async def test_all_executors_end_with_the_keeper(sandbox: Runner) -> None:
    task = asyncio.create_task(sandbox("sleep", "86393"))
    while not processes("86393"):
        await asyncio.sleep(0.01)
    # The keeper is the parent of the executor's process 1, which is the parent of the command.
    command = processes("86393")[0]
    keeper = parent(parent(command))
    os.kill(keeper, signal.SIGKILL)
    with pytest.raises(AttemptLost, match="keeper"):
        await task
    while processes("86393"):
        await asyncio.sleep(0.01)
    assert (await sandbox("true")).exit.exit_code == 0, "another keeper runs what begins then"


async def test_an_executor_whose_process_1_is_killed_is_lost(sandbox: Runner) -> None:
    task = asyncio.create_task(sandbox("sleep", "86394"))
    while not processes("86394"):
        await asyncio.sleep(0.01)
    os.kill(parent(processes("86394")[0]), signal.SIGKILL)
    with pytest.raises(AttemptLost):
        await task
    assert processes("86394") == []


def parent(pid: int) -> int:
    """The parent of process `pid`."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_much_output_is_bounded_with_head_and_tail(sandbox: Runner) -> None:
    ran = await sandbox("sh", "-c", "echo first; yes 0123456789 | head -c 20000000; echo last")
    assert ran.stdout.startswith("first\n")
    assert ran.stdout.endswith("last\n")
    assert "bytes left out" in ran.stdout
    assert len(ran.stdout) < 66000
    kept = list((sandbox.state / "attempts").glob("*/ex-00/streams/*"))
    assert sum(one.stat().st_size for one in kept) <= 3 << 20


async def test_a_full_disk_under_a_redirect_is_never_a_success(sandbox: Runner) -> None:
    job = sandbox.job("sh", "-c", "head -c 4000000 /dev/zero; true", mounts=["/data"], stdout="/data/out")
    small = job.space.scratch / "data"
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=1777", "tmpfs", small], check=True)
    except subprocess.CalledProcessError:
        pytest.skip("only root can mount a small disk to fill")
    try:
        # The keeper's picture of the machine is older than this mount: a new engine sees it.
        await sandbox.engine.stop()
        sandbox.engine = type(sandbox.engine)(sandbox.state)  # type: ignore[call-arg]
        await sandbox.engine.start()
        with pytest.raises(StepFailed, match="stdout could not be written to /data/out: No space left on device"):
            await sandbox.run(job)
    finally:
        subprocess.run(["umount", small], check=True)


async def test_many_run_at_once(sandbox: Runner) -> None:
    ends = await asyncio.gather(*[sandbox("sh", "-c", f"exit {code}") for code in range(20)])
    assert [one.exit.exit_code for one in ends] == list(range(20))


async def test_files_belong_to_one_who_can_hand_them_out(sandbox: Runner) -> None:
    job = sandbox.job("sh", "-c", "umask 077; echo x >/data/private", mounts=["/data"])
    ran = await sandbox.run(job)
    found = ran.scratch / "data/private"
    assert found.read_text() == "x\n"
    assert stat.S_IMODE(found.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        (["/home", "/home/a", "/root"], ["/home", "/root"]),
        (["/", "/home"], ["/home"]),
        (["/srv/a", "/srv/ab"], ["/srv/a", "/srv/ab"]),
    ],
)
def test_only_the_outermost_directories_are_hidden(paths: list[str], kept: list[str]) -> None:
    assert root.outermost(paths) == kept
