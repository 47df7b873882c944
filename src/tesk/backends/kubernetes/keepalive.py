"""How a connection on which nothing is said for hours is seen to be broken."""

from __future__ import annotations

import socket

__all__ = ["KEEPALIVE"]

KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""Options of its socket: level, name, value. A peer that has gone is noticed within a minute."""
