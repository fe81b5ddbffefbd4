"""A port that is held for a server that will bind it later, so that no other user can take it."""

from __future__ import annotations

import socket


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
