"""`proxygrm proxy front`: the front end as a process."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from proxygrm.errors import UserError
from proxygrm.proxy.client import ProxyClient
from proxygrm.proxy.endpoints import Endpoints
from proxygrm.proxy.standalone import until_told

GRACE_S = 5
"""For calls that are under way when the end is asked for."""


def run(
    endpoints: Endpoints,
    key_file: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    pictures: Path | None = None,
    timeout_s: float | None = None,
    said: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM. UserError: the port is taken, the key file is open to others."""
    import uvicorn

    from proxygrm.proxy.front import front

    if pictures is not None and not pictures.is_dir():
        raise UserError(f"proxy front: there is no folder {pictures} (--pictures)")
    key = private_key(key_file)
    client = ProxyClient(endpoints, timeout_s=timeout_s)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise UserError(
                f"proxy front: cannot have {host} port {port}: {error.strerror}; --port 0 takes a free one"
            ) from error
        said(f"front end: http://{host}:{listening.getsockname()[1]} over {len(endpoints.replicas)} replicas")
        said(f"key (yours alone to read; kept, so that callers outlive a restart): {key_file}")
        config = uvicorn.Config(
            front(client, key, pictures),
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=2048,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
        )
        with until_told():  # uvicorn ends by the signal and then raises it again
            uvicorn.Server(config).run(sockets=[listening])
    said("stopped")


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
    key = file.read_text(encoding="utf-8").strip()
    if not key:
        raise UserError(f"proxy front: the key file {file} is empty: remove it for a new key")
    return key
