"""The address of a node: that of the profile's interface, else the one SLURM has."""

from __future__ import annotations

import os
import re
import socket

from proxygrm.core.errors import UserError
from slurm import commands


def node_name() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def node_address(interface: str = "") -> str:
    """IPv4 address of this node.

    Never through the host's name: virtual nodes share one, and a real node's name may resolve to 127.0.1.1.
    """
    if interface:
        return interface_address(interface)
    name = node_name()
    output = commands.ask("scontrol", "show", "node", "-o", name)
    match = re.search(r"\bNodeAddr=(\S+)", output)
    if not match:
        raise UserError(
            f"SLURM has no address for node {name}: {output.strip()}", code="slurm.no-node-address", node=name
        )
    return socket.gethostbyname(match[1])


def interface_address(interface: str) -> str:
    """IPv4 address of a network interface of this node. UserError when there is none."""
    import psutil

    interfaces = psutil.net_if_addrs()
    if interface not in interfaces:
        raise UserError(
            f"node {node_name()} has no network interface {interface!r}; it has {', '.join(interfaces)}; "
            "set node.interface in the profile",
            code="slurm.no-interface",
            node=node_name(),
            interface=interface,
            known=sorted(interfaces),
        )
    for address in interfaces[interface]:
        if address.family == socket.AF_INET:
            return str(address.address)
    raise UserError(
        f"interface {interface!r} of node {node_name()} has no IPv4 address",
        code="slurm.interface-without-address",
        node=node_name(),
        interface=interface,
    )


def interface_of(address: str) -> str:
    """Name of the interface that has an address; virtual nodes' 127.0.0.x addresses belong to `lo`."""
    import psutil

    if address.startswith("127."):
        return "lo"
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return str(name)
    raise UserError(
        f"no interface of node {node_name()} has the address {address}; set node.interface in the profile",
        code="slurm.no-interface-of-address",
        node=node_name(),
        address=address,
    )
