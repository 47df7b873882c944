"""How a connection on which nothing is said for hours is seen to be broken."""

from __future__ import annotations

import socket

__all__ = ["keep_alive"]

_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel notice within a minute that the other side of the TCP `connection` has gone."""
    for option in _OPTIONS:
        connection.setsockopt(*option)
