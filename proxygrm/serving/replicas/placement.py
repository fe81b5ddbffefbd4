"""Which replica runs on which GPUs of which node. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxygrm.core.errors import UserError
from proxygrm.serving.services.service import ServiceNode


@dataclass(frozen=True)
class Place:
    """gpus: positions in the node's own list of GPUs (not CUDA numbers)."""

    replica: int
    node: str
    address: str
    gpus: tuple[int, ...]


def place_replicas(nodes: Sequence[ServiceNode], replicas: int, tensor_parallel_size: int) -> list[Place]:
    """One replica per node in turn, so that nodes are loaded evenly; a replica never spans two nodes.

    UserError when they do not fit.
    """
    free = {node.name: list(node.gpus) for node in nodes}
    places: list[Place] = []
    while len(places) < replicas:
        placed = len(places)
        for node in nodes:
            if len(places) < replicas and len(free[node.name]) >= tensor_parallel_size:
                gpus, free[node.name] = free[node.name][:tensor_parallel_size], free[node.name][tensor_parallel_size:]
                places.append(Place(len(places), node.name, node.address, tuple(gpus)))
        if len(places) == placed:
            gpus_by_node = ", ".join(f"{node.name} {len(node.gpus)}" for node in nodes if node.gpus) or "none"
            raise UserError(
                f"proxy: {replicas} replicas of {tensor_parallel_size} GPUs do not fit on the proxy's GPUs "
                f"({gpus_by_node}); there is room for {len(places)}: lower proxy "
                "replicas or tensor_parallel_size, or add a proxy node",
                code="proxy.replicas-do-not-fit",
                replicas=replicas,
                tensor_parallel_size=tensor_parallel_size,
                room=len(places),
            )
    return places
