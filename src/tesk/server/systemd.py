"""What systemd, or whatever does as it does, hands to a service and wants to hear from it.

sd_listen_fds(3): sockets that listen already, from descriptor 3 on. sd_notify(3): one datagram for each news.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Mapping

__all__ = ["inherited_sockets", "notify"]

_log = logging.getLogger("tesk.server")

_FIRST = 3


def inherited_sockets(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """The descriptors that this process was started with, each under its name; none unless they are meant for it.

    Raises ValueError with what is wrong when one of them is no socket.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, socket.socket] = {}
    try:
        for number, descriptor in enumerate(range(_FIRST, _FIRST + int(count))):
            name = names[number] if number < len(names) and names[number] else "unnamed"
            os.set_inheritable(descriptor, False)  # no executor may hold it
            found[f"{name} (descriptor {descriptor})"] = socket.socket(fileno=descriptor)
    except OSError as error:
        for one in found.values():
            one.close()
        raise ValueError(f"descriptor {descriptor} of LISTEN_FDS={count} is no socket ({error.strerror})") from error
    return found


def notify(environ: Mapping[str, str], news: str) -> None:
    """Tell who started this process (`READY=1`), if that wants to be told."""
    place = environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told:
            told.sendto(news.encode(), "\0" + place[1:] if place[0] == "@" else place)
    except OSError as error:
        _log.warning("%s could not be told to NOTIFY_SOCKET %s: %s", news, place, error.strerror)
