"""Serves an app of the demo over HTTP, on a port that is bound before it is announced."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_text


def bind(host: str, port: int) -> socket.socket:
    """port: 0 for a free one. Raises UserError: judge.cannot-listen."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(512)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror}); give another --port, or 0",
            code="judge.cannot-listen",
            host=host,
            port=port,
        ) from error
    return bound


def serve(app: Any, bound: socket.socket, port_file: Path | None = None) -> None:
    """Serve until a signal. port_file: where the port is written; a client can connect as soon as it is there."""
    import uvicorn

    from proxygrm.serving.access.connections import AuthorizeAll, LimitedProtocol

    if port_file:
        write_text(port_file, f"{bound.getsockname()[1]}\n")
    config = uvicorn.Config(AuthorizeAll(app), http=LimitedProtocol, ws="none", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[bound])
