"""Which node does what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxygrm.errors import UserError


@dataclass(frozen=True)
class NodeRole:
    """One node of the allocation.

    rank: of its task; rank 0 is the head and drives. trainer_gpus: what Ray counts as GPU there. proxy_gpus: what
    it counts as `proxy_gpu`, a resource verl does not know; they are the node's last GPUs. cpus: logical CPUs.
    """

    name: str
    address: str
    rank: int
    trainer_gpus: int
    proxy_gpus: int
    cpus: int


def plan_cluster(
    node_names: Sequence[str],
    addresses: Sequence[str],
    gpus_per_node: int,
    proxy_nodes: int,
    proxy_gpus_shared: int,
    cpus: int,
) -> tuple[NodeRole, ...]:
    """The last `proxy_nodes` nodes serve the proxy with all their GPUs, the others train with all of theirs.

    On a single node the last `proxy_gpus_shared` of its GPUs serve the proxy; with more nodes that number is not
    used, because trainer nodes must be alike. No proxy at all: proxy_nodes 0, or on one node proxy_gpus_shared 0.
    """
    total = len(node_names)
    if total == 0 or total != len(addresses):
        raise UserError(f"Ray: {total} node names and {len(addresses)} addresses; there must be one of each a node")
    if len(set(node_names)) != total or len(set(addresses)) != total:
        raise UserError(f"Ray: nodes must differ in name and address: {', '.join(map('='.join, zip(node_names, addresses, strict=True)))}")
    if gpus_per_node < 1:
        raise UserError(f"Ray: {gpus_per_node} GPUs a node; training needs at least 1")
    if proxy_nodes < 0 or proxy_gpus_shared < 0:
        raise UserError("Ray: a negative number of proxy nodes or GPUs")
    if total == 1:
        shared = proxy_gpus_shared if proxy_nodes else 0
        if shared >= gpus_per_node:
            raise UserError(
                f"one node with {gpus_per_node} GPUs, {shared} of them for the proxy, leaves none to train on; "
                f"ask for {shared + 1} GPUs or for 2 nodes"
            )
        return (NodeRole(node_names[0], addresses[0], 0, gpus_per_node - shared, shared, cpus),)
    if proxy_nodes >= total:
        raise UserError(f"{total} nodes, {proxy_nodes} of them for the proxy, leave none to train on; ask for more nodes")
    first_proxy = total - proxy_nodes
    return tuple(
        NodeRole(
            name,
            address,
            rank,
            trainer_gpus=gpus_per_node if rank < first_proxy else 0,
            proxy_gpus=0 if rank < first_proxy else gpus_per_node,
            cpus=cpus,
        )
        for rank, (name, address) in enumerate(zip(node_names, addresses, strict=True))
    )


def trainer_nodes(plan: Sequence[NodeRole]) -> list[NodeRole]:
    return [node for node in plan if node.trainer_gpus]


@dataclass(frozen=True)
class Seen:
    """What Ray says of one live node."""

    address: str
    gpus: int
    proxy_gpus: int


def missing(plan: Sequence[NodeRole], seen: Sequence[Seen]) -> str | None:
    """None when every node is there with all it should have; else the sum, and what is missing."""
    by_address = {node.address: node for node in seen}
    here = [node for node in plan if node.address in by_address]
    wrong = [
        f"{node.name} ({node.address})"
        for node in plan
        if (found := by_address.get(node.address)) is None
        or (found.gpus, found.proxy_gpus) != (node.trainer_gpus, node.proxy_gpus)
    ]
    if not wrong:
        return None
    gpus, proxy_gpus = sum(n.gpus for n in seen), sum(n.proxy_gpus for n in seen)
    return (
        f"{len(here)} of {len(plan)} nodes, {gpus} of {sum(n.trainer_gpus for n in plan)} GPUs, "
        f"{proxy_gpus} of {sum(n.proxy_gpus for n in plan)} proxy GPUs; missing: {', '.join(wrong)}"
    )
