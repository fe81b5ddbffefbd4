"""Ports for servers that open them later: held ones, which no other user can take, and, for servers that cannot share
a port, free ones."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

from proxygrm.core.errors import UserError


def hold(address: str, port: int = 0) -> socket.socket:
    """A socket that is bound to the address and never listens; the server binds it too and listens. port 0: a free one.

    With SO_REUSEPORT, which vLLM sets as well, the kernel lets only processes of the same user bind it too. Never with
    SO_REUSEADDR: that would let every user bind a port on which nothing listens yet. Raises OSError.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if port:  # SO_REUSEPORT alone would share the port with another server of this user
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    held = socket.socket(family)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address, port))
    except OSError:
        held.close()
        raise
    return held


def free_port(address: str) -> int:
    """A port that is free now, below the ephemeral range, where no outgoing connection can take it."""
    for port in random.Random().sample(range(20000, 32000), 200):
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
                return port
            except OSError:
                continue
    raise UserError(f"no free port between 20000 and 32000 on {address}", code="ray.no-port", address=address)


def is_taken_by_others(port: int) -> bool:
    """Whether a process of another user listens on the port, at any address of this machine (Linux)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for columns in map(str.split, lines):
            listens = columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port
            if listens and int(columns[7]) != os.getuid():
                return True
    return False
