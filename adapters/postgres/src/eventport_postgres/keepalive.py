"""Noticing a connection whose other end is gone, although nobody has said so."""

from __future__ import annotations

import socket

from typing import Final

from eventport_postgres.asking import AnyConnection
from eventport_postgres.vendor import socket_of


_OPTIONS: Final = {
    "TCP_KEEPIDLE": 15,  # seconds of silence before the first probe
    "TCP_KEEPINTVL": 5,  # seconds between two probes
    "TCP_KEEPCNT": 3,  # unanswered probes that end the connection
    "TCP_USER_TIMEOUT": 30_000,  # milliseconds that what was sent may remain unacknowledged
}


def keep_alive(connection: AnyConnection) -> None:
    """Let the operating system end a connection whose other end is silent for half a minute.

    asyncpg has no option for it; where its socket is not found, the timeouts have to do.
    """
    found = socket_of(connection)
    if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        if hasattr(socket, name):  # not every system has each
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
