"""Which node does what. Pure: every task of the job computes the same plan from the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proxygrm.core.errors import UserError


@dataclass(frozen=True)
class NodeRecord:
    """What each task publishes about its node."""

    rank: int
    name: str
    address: str


@dataclass(frozen=True)
class Share:
    """What one auxiliary service takes of the job."""

    service: str
    nodes: int = 0
    """Nodes that it has for itself; 0: it shares those of the trainers."""
    gpus: int = 0
    """GPUs that it takes of each node that it shares."""


@dataclass(frozen=True)
class NodeRole:
    """What one node does: Ray counts `trainer_gpus` as GPU and a service's as the custom resource SERVICE_gpu."""

    rank: int
    name: str
    address: str
    trainer_gpus: int
    """The first GPUs of the node."""
    services: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Services that run here, and the GPUs of each by their position on the node."""

    def resources(self) -> dict[str, int]:
        """Ray's custom resources of the node."""
        return {f"{service}_gpu": len(gpus) for service, gpus in self.services.items() if gpus}


@dataclass(frozen=True)
class ClusterPlan:
    nodes: tuple[NodeRole, ...]

    @property
    def trainers(self) -> tuple[NodeRole, ...]:
        return tuple(node for node in self.nodes if node.trainer_gpus)

    def serving(self, service: str) -> tuple[NodeRole, ...]:
        return tuple(node for node in self.nodes if service in node.services)

    @property
    def head(self) -> NodeRole:
        return self.nodes[0]


def plan_cluster(records: list[NodeRecord], gpus_per_node: int, shares: Sequence[Share] = ()) -> ClusterPlan:
    """The last nodes serve, in the order of the services; the others train. A single node is shared by all.

    Nodes of a service offer Ray no `GPU`, because verl counts every GPU of the cluster as its own.
    """
    ordered = sorted(records, key=lambda record: record.rank)
    if len({record.address for record in ordered}) != len(ordered):
        addresses = {record.name: record.address for record in ordered}
        listed = ", ".join(f"{name}={address}" for name, address in addresses.items())
        raise UserError(f"two nodes have the same address: {listed}", code="ray.duplicate-address", addresses=addresses)
    alone = len(ordered) == 1 and all(share.nodes <= 1 for share in shares)
    own = [] if alone else [share for share in shares if share.nodes]
    training = len(ordered) - sum(share.nodes for share in own)
    if training < 1:
        listed = " and ".join(f"{share.nodes} {share.service} nodes" for share in own)
        raise UserError(
            f"{listed} of {len(ordered)} nodes leave none to train; ask for more nodes (--nodes), or fewer of these",
            code="ray.no-training-node",
            services={share.service: share.nodes for share in own},
            nodes=len(ordered),
        )
    shared = [share for share in shares if share not in own]
    left = max(0, gpus_per_node - sum(share.gpus for share in shared))
    if left == 0 < gpus_per_node:
        listed = " and ".join(f"{share.gpus} GPUs of {share.service}" for share in shared if share.gpus)
        raise UserError(
            f"one node with {gpus_per_node} GPUs cannot hold the trainer and {listed}; "
            "ask for more nodes (--nodes 2), or fewer GPUs for these",
            code="ray.node-too-small",
            gpus=gpus_per_node,
            services={share.service: share.gpus for share in shared},
        )
    beside, position = {}, left
    for share in shared:
        beside[share.service] = tuple(range(position, position + share.gpus))
        position += share.gpus
    every = tuple(range(gpus_per_node))
    owners = [share.service for share in own for _ in range(share.nodes)]
    roles = [
        NodeRole(r.rank, r.name, r.address, left, beside)
        if place < training
        else NodeRole(r.rank, r.name, r.address, 0, {owners[place - training]: every})
        for place, r in enumerate(ordered)
    ]
    return ClusterPlan(tuple(roles))
