"""The few Linux system calls that the sandbox needs and Python's os module (3.11) does not have."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct

__all__ = [
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "bind",
    "detach",
    "drop_capabilities",
    "loopback_up",
    "make_private",
    "mount",
    "no_new_privileges",
    "pivot_root",
    "read_only",
    "read_only_here",
    "set_undumpable",
    "setns",
    "unshare",
]

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

AT_FDCWD = -100
AT_RECURSIVE = 0x8000
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522

# The number of mount_setattr is the same on every architecture but alpha; pivot_root's is not.
SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217, "armv7l": 218}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    _check(_libc.setns(fd, kind), "setns")


def mount(kind: str, target: str, options: str = "", flags: int = MS_NOSUID | MS_NODEV) -> None:
    """Mount a new file system of `kind` (tmpfs, proc) at `target`."""
    result = _libc.mount(kind.encode(), os.fsencode(target), kind.encode(), flags, options.encode() or None)
    _check(result, f"mount {kind} at {target}")


def bind(source: str, target: str) -> None:
    """Show `source` and everything mounted below it at `target` too."""
    result = _libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND | MS_REC, None)
    _check(result, f"bind {source} at {target}")


def make_private() -> None:
    """Let no mount that is made from here on reach another mount namespace, or the reverse."""
    _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "make mounts private")


def read_only(target: str) -> None:
    """Make `target` and every mount below it read-only, and setuid programs there powerless."""
    attributes = _MountAttributes(attr_set=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    result = _libc.syscall(
        SYS_MOUNT_SETATTR,
        AT_FDCWD,
        os.fsencode(target),
        AT_RECURSIVE,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )
    if result == 0:
        return
    # Linux before 5.12: one remount per mount, keeping the flags each one has (a user namespace locks them).
    for point, options in _mounts_below(target):
        kept = sum({"nodev": MS_NODEV, "noexec": MS_NOEXEC}.get(one, 0) for one in options)
        flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept
        _check(_libc.mount(None, os.fsencode(point), None, flags, None), f"remount {point} read-only")


def read_only_here(target: str) -> None:
    """Make the one mount at `target` read-only, and leave those below it as they are."""
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV
    _check(_libc.mount(None, os.fsencode(target), None, flags, None), f"remount {target} read-only")


def _mounts_below(target: str) -> list[tuple[str, list[str]]]:
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split()
            point = fields[4].encode("latin-1", "surrogateescape").decode("unicode_escape")
            if point == target or point.startswith(target.rstrip("/") + "/"):
                found.append((point, fields[5].split(",")))
    return found


def detach(target: str) -> None:
    """Take the mount at `target` away, now from the name space and from memory when its last user ends."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def pivot_root(new_root: str) -> None:
    """Make `new_root`, a mount, the root, and let go of the old one."""
    os.chdir(new_root)
    number = SYS_PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(0, f"the sandbox does not know the processor architecture {platform.machine()}")
    # Both roots at one place, then the upper one is the old one: pivot_root(2), "pivot_root(".", ".")".
    _check(_libc.syscall(number, b".", b"."), "pivot_root")
    detach(".")
    os.chdir("/")


def loopback_up() -> None:
    """Make `lo` usable in a network namespace that was just made: netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def no_new_privileges() -> None:
    """No program started from here on gains rights by setuid bits or file capabilities."""
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def set_undumpable() -> None:
    """Let no process of the same user trace this one or open its files through /proc."""
    _check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "set undumpable")


def drop_capabilities() -> None:
    """Give up every capability; with `no_new_privileges`, for good."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, nothing), "drop capabilities")
