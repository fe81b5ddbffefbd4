"""`proxygrm proxy front`: the front end as a process."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.serving.access.callers import NOBODY, THIS_MACHINE, Callers, is_loopback
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.replicas.standalone import until_told

BACKLOG = 2048
GRACE_S = 5
"""For calls that are under way when the end is asked for."""


def run(
    endpoints: Endpoints,
    key_file: Path | None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    pictures: Path | None = None,
    callers: Callers = NOBODY,
    timeout_s: float | None = None,
    said: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM.

    callers: who needs no key. key_file: None for no key at all, then nobody but them is answered; if there are none of
    them either, everybody on this machine is. UserError: the port is taken, the key file is open to others, or no key
    is asked for where other machines can call.
    """
    import uvicorn

    from proxygrm.serving.access.connections import LimitedProtocol, allow_many_files
    from proxygrm.serving.front.app import front

    if pictures is not None and not pictures.is_dir():
        raise UserError(f"proxy front: there is no folder {pictures} (--pictures)")
    key = private_key(key_file) if key_file else secrets.token_urlsafe(32)  # one that nobody knows
    client = ProxyClient(endpoints, timeout_s=timeout_s)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)  # now: until somebody listens on it, another user could
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            hint = "--port 0 takes a free one" if taken else "--host names an address of this machine"
            raise UserError(f"proxy front: cannot have {host} port {port}: {error.strerror}; {hint}") from error
        allow_many_files()
        address, bound_port = listening.getsockname()[:2]
        if key_file is None and callers == NOBODY:
            if not is_loopback(address):
                raise UserError(
                    f"proxy front: without a key everybody who reaches {host} could call; say who may with "
                    "--allow ADDRESS or NETWORK, listen on 127.0.0.1, or leave --no-key out"
                )
            callers = THIS_MACHINE
        shown = f"[{host}]" if ":" in host else host
        said(f"front end: http://{shown}:{bound_port} over {len(endpoints.replicas)} replicas")
        said(_who_may_call(callers, key_file))
        config = uvicorn.Config(
            front(client, key, pictures, callers),
            http=LimitedProtocol,
            ws="none",
            proxy_headers=False,  # who calls is known by the socket, not by what X-Forwarded-For says
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
        )
        with until_told():  # uvicorn ends by the signal and then raises it again
            uvicorn.Server(config).run(sockets=[listening])
    said("stopped")


def _who_may_call(callers: Callers, key_file: Path | None) -> str:
    if callers == NOBODY:
        return f"callers need the key in {key_file} (yours alone to read; kept, so that callers outlive a restart)"
    here = "; every user of this machine can call" if any(network.is_loopback for network in callers.networks) else ""
    others = f"all others need the key in {key_file}" if key_file else "all others are refused"
    return f"callers without a key: {callers}{here}; {others}"


def private_key(file: Path) -> str:
    """The key in the file, made when there is none. UserError: others may read it, or it is empty."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise UserError(f"proxy front: cannot write the key file {file}: {error.strerror}") from error
    if file.stat().st_mode & 0o077:
        raise UserError(f"proxy front: others may read the key file {file}: chmod 600 it, or remove it for a new key")
    key = read_user_text(file).strip()
    if not key:
        raise UserError(f"proxy front: the key file {file} is empty: remove it for a new key")
    return key
