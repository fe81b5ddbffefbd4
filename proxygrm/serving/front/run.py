"""`proxygrm proxy front`: the front end as a process."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.serving.access.callers import NOBODY, THIS_MACHINE, Callers, is_loopback
from proxygrm.serving.access.key_file import read_or_make_key
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.replicas.standalone import stop_on_signal

BACKLOG = 2048
GRACE_S = 5
"""For calls in progress when the front end stops."""


def run(
    endpoints: Endpoints,
    key_file: Path | None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    images: Path | None = None,
    callers: Callers = NOBODY,
    timeout_s: float | None = None,
    on_message: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM.

    callers: those that need no key. key_file: None for no key, then only `callers` are answered; without any, all users
    of this machine are. UserError: the port is in use, the key file is readable by others, or there is neither a key
    nor a list of callers where other machines can connect.
    """
    import uvicorn

    from proxygrm.serving.access.connections import LimitedProtocol, allow_many_files
    from proxygrm.serving.front.app import front

    if images is not None and not images.is_dir():
        raise UserError(f"proxy front: there is no folder {images} (--images)", code="file.not-a-folder", path=images)
    key = read_or_make_key(key_file) if key_file else secrets.token_urlsafe(32)  # unknown to any caller
    client = ProxyClient(endpoints, timeout_s=timeout_s)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)  # now: until a process listens on it, another user could
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            hint = "--port 0 takes a free one" if in_use else "--host names an address of this machine"
            raise UserError(
                f"proxy front: cannot listen on {host} port {port}: {error.strerror}; {hint}",
                code="proxy.port-unavailable",
                address=host,
                port=port,
                reason=error.strerror,
            ) from error
        allow_many_files()
        address, bound_port = listening.getsockname()[:2]
        if key_file is None and callers == NOBODY:
            if not is_loopback(address):
                raise UserError(
                    f"proxy front: without a key everybody who reaches {host} could call; name the callers with "
                    "--allow ADDRESS or NETWORK, listen on 127.0.0.1, or leave --no-key out",
                    code="proxy.open-to-all",
                    address=host,
                )
            callers = THIS_MACHINE
        url_host = f"[{host}]" if ":" in host else host
        on_message(f"front end: http://{url_host}:{bound_port} over {len(endpoints.replicas)} replicas")
        on_message(_access_line(callers, key_file))
        config = uvicorn.Config(
            front(client, key, images, callers),
            http=LimitedProtocol,
            ws="none",
            proxy_headers=False,  # callers are known by the socket, not by X-Forwarded-For
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
        )
        with stop_on_signal():  # uvicorn stops at the signal and then raises it again
            uvicorn.Server(config).run(sockets=[listening])
    on_message("stopped")


def _access_line(callers: Callers, key_file: Path | None) -> str:
    if callers == NOBODY:
        return f"callers need the key in {key_file} (readable by you alone; kept, so that callers survive a restart)"
    here = "; every user of this machine can call" if any(network.is_loopback for network in callers.networks) else ""
    others = f"all others need the key in {key_file}" if key_file else "all others are refused"
    return f"callers without a key: {callers}{here}; {others}"
