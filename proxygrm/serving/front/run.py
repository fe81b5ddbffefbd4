"""`proxygrm proxy front`: the front end as a process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxygrm.serving.access.callers import NOBODY, Callers
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.front.listen import check_folder, listen, server_of
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.replicas.standalone import stop_on_signal

COMMAND = "proxy front"


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
    """Serve until SIGINT or SIGTERM. key_file, callers, UserError: as of `listen`."""
    from proxygrm.serving.front.app import front

    check_folder(COMMAND, images)
    client = ProxyClient(endpoints, timeout_s=timeout_s)
    with listen(COMMAND, host, port, key_file, callers) as here:
        on_message(f"front end: {here.url} over {len(endpoints.replicas)} replicas")
        on_message(here.access)
        server = server_of(front(client, here.key, images, here.callers))
        with stop_on_signal():  # uvicorn stops at the signal and then raises it again
            server.run(sockets=[here.socket])
    on_message("stopped")
