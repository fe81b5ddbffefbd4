"""The difference between the clocks of two nodes, over the network they will use (Cristian's algorithm)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

from slurm.health.preflight.record import Offset

CALLS = 5
CALL_S = 10.0


@contextlib.contextmanager
def clock_server(address: str) -> Iterator[int]:
    """Answers each connection with this node's time and nothing else; yields the port."""
    server = socket.create_server((address, 0), backlog=128)

    def answer() -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:  # closed: the preflight has ended
                return
            with caller, contextlib.suppress(OSError):
                caller.settimeout(CALL_S)
                caller.sendall(struct.pack("!d", time.time()))

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread from accept
        server.close()


def clock_offset(address: str, port: int) -> Offset:
    """This node's clock minus the server's, from the quickest of a few calls. Raises OSError when unreachable."""
    offsets = []
    for _ in range(CALLS):
        before = time.time()
        with socket.create_connection((address, port), timeout=CALL_S) as call:
            there = struct.unpack("!d", call.recv(8, socket.MSG_WAITALL))[0]
        after = time.time()
        offsets.append(Offset((before + after) / 2 - there, (after - before) / 2))
    return min(offsets, key=lambda offset: offset.error_s)
