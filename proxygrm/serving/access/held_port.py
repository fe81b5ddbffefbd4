"""A port that is held for a server of ours which will bind it later, so that no other user can take it."""

from __future__ import annotations

import socket


def hold(address: str, port: int = 0) -> socket.socket:
    """A socket bound to the address for good, never listening; the server may bind it too and listen. 0: a free port.

    With SO_REUSEPORT, which vLLM sets as well, the kernel asks whoever binds next for the same user. Never with
    SO_REUSEADDR: that would let everybody bind a port on which nobody listens yet. Raises OSError.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if port:  # SO_REUSEPORT alone would share the port with a server of our own
        with socket.socket(family) as asking:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            asking.bind((address, port))
    held = socket.socket(family)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address, port))
    except OSError:
        held.close()
        raise
    return held
