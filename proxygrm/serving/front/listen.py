"""A front end's port, who may call it, and the server that answers there: the same for every front end."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.serving.access.callers import NOBODY, THIS_MACHINE, Callers, is_loopback
from proxygrm.serving.access.key_file import read_or_make_key

BACKLOG = 2048
GRACE_S = 5
"""For calls in progress when the front end stops."""


@dataclass(frozen=True)
class Listening:
    socket: socket.socket
    url: str
    key: str
    """That callers send."""
    callers: Callers
    """Those that need no key."""
    access: str
    """The same in a sentence."""


@contextmanager
def listen(command: str, host: str, port: int, key_file: Path | None, callers: Callers) -> Iterator[Listening]:
    """Bound and listening. command: for messages. key_file: None for no key, then only `callers` are answered; without
    any, all users of this machine are.

    UserError: the port is in use, the key file is readable by others, or there is neither a key nor a list of callers
    where other machines can connect.
    """
    key = read_or_make_key(key_file) if key_file else secrets.token_urlsafe(32)  # unknown to any caller
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)  # now: until a process listens on it, another user could
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            hint = "--port 0 takes a free one" if in_use else "--host names an address of this machine"
            raise UserError(
                f"{command}: cannot listen on {host} port {port}: {error.strerror}; {hint}",
                code="proxy.port-unavailable",
                address=host,
                port=port,
                reason=error.strerror,
            ) from error
        address, bound_port = listening.getsockname()[:2]
        if key_file is None and callers == NOBODY:
            if not is_loopback(address):
                raise UserError(
                    f"{command}: without a key everybody who reaches {host} could call; name the callers with "
                    "--allow ADDRESS or NETWORK, listen on 127.0.0.1, or leave --no-key out",
                    code="proxy.open-to-all",
                    address=host,
                )
            callers = THIS_MACHINE
        url_host = f"[{host}]" if ":" in host else host
        yield Listening(listening, f"http://{url_host}:{bound_port}", key, callers, _access_line(callers, key_file))


def server_of(app: Any) -> Any:
    """uvicorn's server of an application, with the limits of `access.connections`."""
    import uvicorn

    from proxygrm.serving.access.connections import LimitedProtocol, allow_many_files

    allow_many_files()
    config = uvicorn.Config(
        app,
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
    return uvicorn.Server(config)


def check_folder(command: str, images: Path | None) -> None:
    """UserError when the folder of images is not there."""
    if images is not None and not images.is_dir():
        raise UserError(f"{command}: there is no folder {images} (--images)", code="file.not-a-folder", path=images)


def _access_line(callers: Callers, key_file: Path | None) -> str:
    if callers == NOBODY:
        return f"callers need the key in {key_file} (readable by you alone; kept, so that callers survive a restart)"
    here = "; every user of this machine can call" if any(network.is_loopback for network in callers.networks) else ""
    others = f"all others need the key in {key_file}" if key_file else "all others are refused"
    return f"callers without a key: {callers}{here}; {others}"
