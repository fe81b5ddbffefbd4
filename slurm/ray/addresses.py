"""Where the nodes of an allocation reach each other.

Never by hostname: virtual nodes of one machine share it, and on clusters it may name the management network.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from proxygrm.errors import UserError


def node_names() -> list[str]:
    """Nodes of this job, in the order of the ranks of a job with one task a node."""
    listed = os.environ.get("SLURM_JOB_NODELIST") or os.environ.get("SLURM_NODELIST")
    if not listed:
        raise UserError("not inside a SLURM job: SLURM_JOB_NODELIST is not set")
    return _scontrol("show", "hostnames", listed).split()


def addresses_from_slurm(names: Sequence[str]) -> list[str]:
    """The address SLURM knows each node by (NodeAddr), as IPv4."""
    text = _scontrol("show", "node", "-o", ",".join(names))
    return [_resolved(address) for address in parse_node_addresses(text, names)]


def parse_node_addresses(text: str, names: Sequence[str]) -> list[str]:
    """NodeAddr of each name from the output of `scontrol show node -o`; a node without one goes by its name."""
    found = {}
    for line in text.splitlines():
        name = re.search(r"\bNodeName=(\S+)", line)
        address = re.search(r"\bNodeAddr=(\S+)", line)
        if name:
            found[name[1]] = address[1] if address else name[1]
    if lost := [name for name in names if name not in found]:
        raise UserError(f"SLURM knows no node {', '.join(lost)} (scontrol show node)")
    return [found[name] for name in names]


def interface_address(interface: str) -> str:
    """IPv4 address of a network interface of this node, for example ib0."""
    import psutil

    interfaces = psutil.net_if_addrs()
    for entry in interfaces.get(interface, []):
        if entry.family == socket.AF_INET:
            return entry.address
    known = ", ".join(sorted(name for name, entries in interfaces.items() if _ipv4(entries)))
    raise UserError(f"this node has no interface {interface!r} with an IPv4 address (it has {known}); set node.interface in the profile")


def interface_of(address: str) -> str:
    """The interface an own address belongs to, or "" when none does; all of 127.* is the loopback."""
    import psutil

    for name, entries in psutil.net_if_addrs().items():
        own = _ipv4(entries)
        if address in own or (address.startswith("127.") and any(a.startswith("127.") for a in own)):
            return name
    return ""


def node_addresses(names: Sequence[str], rank: int, interface: str, folder: Path, timeout_s: float = 120) -> list[str]:
    """Addresses of all nodes, in their order.

    Without `interface` SLURM is asked. With it only a node itself knows: each writes its own into `folder`
    (shared, of this job alone) and waits for the others'.
    """
    if not interface:
        return addresses_from_slurm(names)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".address-{rank}"
    part.write_text(interface_address(interface))
    part.replace(folder / f"address-{rank}")
    paths = [folder / f"address-{other}" for other in range(len(names))]
    end = time.monotonic() + timeout_s
    while late := [name for name, path in zip(names, paths, strict=True) if not path.exists()]:
        if time.monotonic() > end:
            raise UserError(f"Ray: no address of {', '.join(late)} in {folder} after {timeout_s:.0f} s")
        time.sleep(0.2)
    return [path.read_text() for path in paths]


def _ipv4(entries: Sequence[object]) -> list[str]:
    return [e.address for e in entries if e.family == socket.AF_INET]  # type: ignore[attr-defined]


def _resolved(address: str) -> str:
    try:
        return socket.gethostbyname(address)
    except OSError as error:
        raise UserError(f"the node address {address} cannot be resolved here ({error}); set node.interface") from error


def _scontrol(*arguments: str) -> str:
    try:
        answer = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"scontrol {' '.join(arguments)} did not answer: {error}") from error
    if answer.returncode:
        raise UserError(f"scontrol {' '.join(arguments)}: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout
