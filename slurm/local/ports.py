"""A block of TCP ports per private cluster of this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.lock import Lock
from proxygrm.core.files.owner import is_private
from slurm.local.config import BLOCKS, FIRST_BLOCK, PORTS_PER_BLOCK, ClusterSpec, Ports, ports_used


def is_free(port: int) -> bool:
    """Whether a daemon could now listen on the port on all addresses (as SLURM's do)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def private_folder() -> Path:
    """A folder in /tmp that only this user may enter, for claims on this machine."""
    folder = Path(f"/tmp/proxygrm-{os.getuid()}")  # noqa: S108 - checked below
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not is_private(folder):
        raise UserError(
            f"{folder} is not a private folder of yours: remove it", code="cluster.folder-not-private", path=folder
        )
    return folder


@contextlib.contextmanager
def claimed(spec: ClusterSpec, folder: Path, previous: int | None) -> Iterator[Ports]:
    """A free block, claimed against other clusters of this user that are starting, until the daemons listen on it.

    A port chosen by the user is used or refused (UserError); else the previous block is used, else the next free one.
    """
    home = zlib.crc32(str(folder).encode()) % BLOCKS
    blocks = [FIRST_BLOCK + PORTS_PER_BLOCK * ((home + step) % BLOCKS) for step in range(BLOCKS)]
    if spec.port is not None:
        blocks = [spec.port]
    elif previous in blocks:
        blocks.remove(previous)
        blocks.insert(0, previous)
    busy: list[int] = []
    for first in blocks:
        ports = Ports(first)
        claim = Lock(private_folder() / f"ports-{first}.lock")
        if claim.acquire():
            busy.append(first)
            continue
        try:
            taken = [port for port in ports_used(spec, ports) if not is_free(port)]
            if not taken:
                yield ports
                return
            busy.extend(taken)
        finally:
            claim.release()
    if spec.port is not None:
        raise UserError(
            f"port {busy[0]} is busy and the cluster's ports were fixed to start at {spec.port}: "
            "choose another first port, or none to use a free block",
            code="cluster.port-busy",
            port=busy[0],
            first=spec.port,
        )
    raise UserError(
        f"no free block of ports for a local cluster between {FIRST_BLOCK} and "
        f"{FIRST_BLOCK + BLOCKS * PORTS_PER_BLOCK}: stop another one or choose a first port",
        code="cluster.no-free-ports",
    )
