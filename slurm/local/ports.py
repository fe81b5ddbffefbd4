"""A block of TCP ports for each private cluster of this machine."""

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
    """Whether a daemon could listen on the port on all addresses now (as SLURM's do)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def private_folder() -> Path:
    """A folder of this user alone in /tmp, for claims that hold on this machine only."""
    folder = Path(f"/tmp/proxygrm-{os.getuid()}")  # noqa: S108 - checked below
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not is_private(folder):
        raise UserError(f"{folder} is not a private folder of yours: remove it")
    return folder


@contextlib.contextmanager
def claimed(spec: ClusterSpec, folder: Path, recorded: int | None) -> Iterator[Ports]:
    """A free block, held against other starting clusters of this user until the daemons listen on it.

    The user's own choice is taken or refused (UserError); else the block of last time, else the next free.
    """
    home = zlib.crc32(str(folder).encode()) % BLOCKS
    blocks = [FIRST_BLOCK + PORTS_PER_BLOCK * ((home + step) % BLOCKS) for step in range(BLOCKS)]
    if spec.port is not None:
        blocks = [spec.port]
    elif recorded in blocks:
        blocks.remove(recorded)
        blocks.insert(0, recorded)
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
            "name another first port, or none to take a free block"
        )
    raise UserError(
        f"no free block of ports for a local cluster between {FIRST_BLOCK} and "
        f"{FIRST_BLOCK + BLOCKS * PORTS_PER_BLOCK}: stop another one or name a first port"
    )
