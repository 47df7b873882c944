"""What that kernel starts first and alone: it makes a machine of what it finds, runs the command, and ends the machine.

It is told of one directory of the machine outside: `order.json` is there, and `code` is written there in the end.
It imports the standard library alone: no checkout is in sight yet.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import traceback
import tty
from pathlib import Path
from typing import Any

OUTPUT = "/dev/ttyS0"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONTROLLERS = ("memory", "cpu", "pids")
DELEGATED = ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
"""What systemd gives to the user of a unit with Delegate=yes."""

POWER_OFF = 0x4321FEDC
LOAD_MODULE = 313
SET_FLAGS, UP = 0x8914, 1
"""As reboot(2), finit_module(2) and netdevice(7) know them, on x86-64."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Whatever happens, the machine ends."""
    try:
        order = make_machine(Path(sys.argv[1]))
        code = run(order)
        (Path("/outside") / "code").write_text(str(code))
        mount("none", "/outside", "", "remount,ro")
    except BaseException:  # nobody would be left to print it
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        _LIBC.reboot(POWER_OFF)


def make_machine(share: Path) -> dict[str, Any]:
    """This machine's root file system with a layer of memory over it, and what a system mounts at its start."""
    order: dict[str, Any] = json.loads((share / "order.json").read_text())
    mount("proc", "/proc", "proc")
    load(Path(order["modules"]) / "kernel/fs/overlayfs/overlay.ko")
    mount("memory", "/tmp", "tmpfs")
    for one in ("upper", "work", "root"):
        Path("/tmp", one).mkdir()
    mount("root", "/tmp/root", "overlay", "lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work")
    os.chdir("/tmp/root")
    mount(".", "/", "", "move")  # whose root is another than the machine's may make no user namespaces
    os.chroot(".")
    mount("proc", "/proc", "proc")
    checkout = os.open(order["directory"], os.O_PATH)
    # containers' layers cannot lie on a layer themselves
    for one in ("tmp", "run", "var/tmp", "var/lib/containers", "var/lib/docker"):
        Path("/", one).mkdir(parents=True, exist_ok=True)
        mount("memory", f"/{one}", "tmpfs")
    for one in ("tmp", "var/tmp"):
        os.chmod(f"/{one}", 0o1777)
    if not Path(order["directory"]).is_dir():  # it lay in one of them
        Path(order["directory"]).mkdir(parents=True)
        mount(f"/proc/self/fd/{checkout}", order["directory"], "", "bind")
    os.close(checkout)
    mount("sysfs", "/sys", "sysfs")
    mount("devtmpfs", "/dev", "devtmpfs")
    for one, kind in (("/dev/pts", "devpts"), ("/dev/shm", "tmpfs"), ("/dev/mqueue", "mqueue")):
        Path(one).mkdir(exist_ok=True)
        mount(kind, one, kind)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        Path("/dev", name).symlink_to(f"/proc/self/fd/{number}")
    Path("/dev/fd").symlink_to("/proc/self/fd")
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
    modules = Path("/usr/lib/modules") / Path(order["modules"]).name
    modules.parent.mkdir(exist_ok=True)
    modules.symlink_to(order["modules"])
    Path("/outside").mkdir()
    mount("outside", "/outside", "hostfs", str(share))
    for one in ("iptables", "ip6tables"):  # this kernel does not know the tables of newer ones
        Path("/usr/local/sbin", one).unlink(missing_ok=True)
        Path("/usr/local/sbin", one).symlink_to("/usr/sbin/xtables-legacy-multi")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))
    return order


def run(order: dict[str, Any]) -> int:
    """The command, as root or as a user to whom a control group is delegated; its exit code."""
    user = pwd.getpwnam(order["user"])
    if user.pw_uid:
        open_ways(Path(order["directory"]), Path(sys.executable).resolve())
        delegate(Path("/sys/fs/cgroup/delegated"), user)
    home = Path("/tmp/home")
    home.mkdir()
    shutil.chown(home, user.pw_uid, user.pw_gid)
    output = os.open(OUTPUT, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(output)
    process = subprocess.Popen(
        order["command"],
        cwd=order["directory"],
        env={"PATH": PATH, "HOME": str(home), "USER": user.pw_name, **order["environment"]},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
    )
    while True:  # those whose parents ended are ours
        ended, status = os.wait()
        if ended == process.pid:
            return os.waitstatus_to_exitcode(status)


def open_ways(*places: Path) -> None:
    """Let everybody of this machine come to what may lie in somebody's home outside."""
    for place in places:
        for one in place.parents:
            one.chmod(one.stat().st_mode | 0o011)


def delegate(group: Path, user: pwd.struct_passwd) -> None:
    """Enter a group below which `user` may make groups with limits."""
    (group.parent / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in CONTROLLERS))
    (group / "tests").mkdir(parents=True)
    for place in (group, group / "tests"):
        for one in DELEGATED:
            shutil.chown(place / one, user.pw_uid, user.pw_gid)
    (group / "tests/cgroup.procs").write_text("0")


def mount(what: str, where: str, kind: str, options: str = "") -> None:
    """As mount(8) does it, of whose options this knows some."""
    flags = 0
    for name, flag in (("remount", 32), ("ro", 1), ("move", 8192), ("bind", 4096)):
        if name in options.split(","):
            flags |= flag
    data = None if flags else options.encode()
    if _LIBC.mount(what.encode(), where.encode(), kind.encode(), flags, data):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), where)


def load(module: Path) -> None:
    """Load one of the kernel's modules."""
    with module.open("rb") as file:
        if _LIBC.syscall(LOAD_MODULE, file.fileno(), b"", 0):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(module))


main()
