"""Process 1 of one sandboxed executor: builds its root, starts the command, keeps its streams and how it ended."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import stat
import time
from typing import Any, NoReturn

from tesk.backends.local.keeping.keeper import TOO_LONG, claim, tell
from tesk.backends.local.sandbox import kernel, root
from tesk.backends.local.streams import Sink, redirect_flags, unkept

__all__ = ["launch"]

DEFAULT_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
}
CHUNK = 1 << 16
PIPE_CHUNKS = 16  # of CHUNK bytes: what a pipe can hold, with room
NOT_EXECUTABLE, NOT_FOUND = 126, 127


def launch(run: dict[str, Any], *, base: str, root: str, identity: list[int] | None, network: bool) -> NoReturn:
    """Run one executor to its end and exit; called in a new process 1.

    `identity` is the (user, group) the command runs as, or None to keep ours. `network`: it sees ours.
    """
    end_file = -1
    try:
        end_file = claim(run)
        end = _Launch(run, base, root, identity, network).run()
    except BaseException as error:  # noqa: BLE001 - the server must hear of whatever it was
        end = {"problem": f"the sandbox could not start it: {error}"}
    tell(end_file, end)
    os._exit(0)


class _Launch:
    def __init__(
        self, run: dict[str, Any], base: str, new_root: str, identity: list[int] | None, network: bool
    ) -> None:
        self.run_ = run
        self.streams = os.open(run["streams"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.doors = [os.open(one, os.O_WRONLY | os.O_CLOEXEC) for one in run["doors"]]
        self._become_clean()
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
        if not network:
            kernel.unshare(kernel.CLONE_NEWNET)
            kernel.loopback_up()
        binds = [(source, target, read_only) for source, target, read_only in run["binds"]]
        root.assemble(base, new_root, binds, run["private"], run["workdir"])
        if identity is not None:
            os.setgroups([])
            os.setresgid(identity[1], identity[1], identity[1])
            os.setresuid(identity[0], identity[0], identity[0])
        kernel.no_new_privileges()
        kernel.drop_capabilities()
        # The command is of the same user: it must not reach into this process, which holds its log files.
        kernel.set_undumpable()

    @staticmethod
    def _become_clean() -> None:
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_DFL)
        os.umask(0o022)

    def run(self) -> dict[str, Any]:
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        told_read, told_write = os.pipe()
        start = time.time()
        pid = os.fork()
        if pid == 0:
            self._command(out_write, err_write, told_write)
        for fd in (out_write, err_write, told_write):
            os.close(fd)
        problem = os.read(told_read, CHUNK).decode()  # ends as soon as the command runs, or tells why it does not
        os.close(told_read)
        sinks = {} if problem else self._sinks(out_read, err_read)
        pump = _Pump(dict(sinks), pid)
        status = pump.run()
        code = os.waitstatus_to_exitcode(status)
        end: dict[str, Any] = {
            "start": start,
            "end": time.time(),
            "code": 128 - code if code < 0 else code,
            "usage": _usage(),
        }
        if problem := problem or unkept(sinks.values()):
            end["problem"] = problem
        if pump.fault:
            end["fault"] = pump.fault
        return end

    def _sinks(self, out: int, err: int) -> dict[int, Sink]:
        """Where the bytes of each stream go: its log, and the file the task names."""
        flags = redirect_flags(self.run_["stdout"], self.run_["stderr"])
        return {
            fd: Sink(self.streams, name, path, os.open(path, flags | os.O_CLOEXEC) if path else None)
            for fd, name, path in ((out, "stdout", self.run_["stdout"]), (err, "stderr", self.run_["stderr"]))
        }

    def _command(self, out: int, err: int, told: int) -> NoReturn:
        """Become the user's command, or tell why not and end with what a shell would say."""
        try:
            os.setsid()
            self._be_limited()
            self._redirect(out, err)
            environment = {**DEFAULT_ENVIRONMENT, **self.run_["env"]}
            if workdir := self.run_["workdir"]:
                os.chdir(workdir)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.closerange(3, told)
            os.closerange(told + 1, 1024)
            _execute(self.run_["command"], environment)
        except OSError as error:
            code, sentence = _explain(self.run_, error)
            os.write(told, sentence.encode("utf-8", "replace"))
            os._exit(code)
        os._exit(NOT_EXECUTABLE)

    def _be_limited(self) -> None:
        """The command alone, and what it starts: process 1 must live to tell how it ended."""
        for one in self.doors:
            os.write(one, b"0")
        for kind, most in ((resource.RLIMIT_DATA, self.run_["data"]), (resource.RLIMIT_NPROC, self.run_["processes"])):
            if most is not None:
                _, hard = resource.getrlimit(kind)
                lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
                resource.setrlimit(kind, (lower, lower))

    def _redirect(self, out: int, err: int) -> None:
        stdin = os.open(self.run_["stdin"] or "/dev/null", os.O_RDONLY)
        os.dup2(stdin, 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for name in ("stdout", "stderr"):
            if path := self.run_[name]:
                # Made here, by the command's own user and inside its root, and filled by process 1.
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))


def _usage() -> tuple[int, int, int]:
    """Bytes at the peak, milliseconds in user and in kernel mode, of every process that has been waited for.

    The peak is never below what this process held at its fork, some 15 MiB: the kernel counts that as the command's.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_maxrss * 1024, round(used.ru_utime * 1000), round(used.ru_stime * 1000)


def _execute(command: list[str], environment: dict[str, str]) -> None:
    """execve, with the command looked up on the *task's* PATH; raises OSError of the best candidate."""
    program = command[0]
    if "/" in program:
        os.execve(program, command, environment)
    found: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    for directory in environment["PATH"].split(":"):
        try:
            os.execve(f"{directory or '.'}/{program}", command, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            found = error
    raise found


def _explain(run: dict[str, Any], error: OSError) -> tuple[int, str]:
    """The exit code a shell would give, and a sentence."""
    program = run["command"][0]
    for name in ("stdin", "stdout", "stderr", "workdir"):
        if run[name] and error.filename == run[name] and error.filename != program:
            return NOT_EXECUTABLE, f"its {name} {run[name]} cannot be opened: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        if "/" in program and os.path.exists(program):
            return NOT_FOUND, f"the interpreter that '{program}' names in its first line was not found"
        where = "" if "/" in program else " on the PATH"
        return NOT_FOUND, f"the command '{program}' was not found{where}"
    if error.errno == errno.E2BIG:
        return NOT_EXECUTABLE, TOO_LONG
    if isinstance(error, PermissionError) and os.path.exists(program) and stat.S_ISDIR(os.stat(program).st_mode):
        return NOT_EXECUTABLE, f"the command '{program}' is a directory"
    return NOT_EXECUTABLE, f"the command '{program}' cannot be executed: {error.strerror}"


class _Pump:
    """Carries the command's streams to their files until it ends, and takes in orphans as process 1 must."""

    def __init__(self, sinks: dict[int, Sink], pid: int) -> None:
        self.sinks = sinks
        self.pid = pid
        self.fault: str | None = None
        self.poll = select.poll()
        self.child_read, child_write = os.pipe()
        os.set_blocking(self.child_read, False)
        os.set_blocking(child_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(child_write)
        for fd in self.sinks:
            os.set_blocking(fd, False)
            self.poll.register(fd, select.POLLIN)
        self.poll.register(self.child_read, select.POLLIN)

    def run(self) -> int:
        """The command's wait status."""
        status = self._reap()
        while status is None:
            for fd, _ in self.poll.poll():
                if fd == self.child_read:
                    os.read(fd, 4096)
                else:
                    self._move(fd)
            status = self._reap()
        for fd in list(self.sinks):
            # What the command itself wrote is in the pipe by now; a daemon that it left may not keep us.
            for _ in range(PIPE_CHUNKS):
                if not self._move(fd):
                    break
        return status

    def _reap(self) -> int | None:
        ended = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid == self.pid:
                ended = status

    def _move(self, fd: int) -> bool:
        """Carry what is there; False when there is nothing now, or nothing will come."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        sink = self.sinks[fd]
        try:
            sink.write(data)
        except OSError as error:
            # The command hears of it as a broken pipe, as it would have heard of the full disk by itself.
            self.fault = sink.fault(error)
            data = b""
        if not data:
            self.poll.unregister(fd)
            del self.sinks[fd]
            os.close(fd)
        return bool(data)
