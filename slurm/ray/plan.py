"""Which node does what. Pure: every task of the job computes the same plan from the same records."""

from __future__ import annotations

from dataclasses import dataclass

from proxygrm.core.errors import UserError


@dataclass(frozen=True)
class NodeRecord:
    """What each task publishes about its node."""

    rank: int
    name: str
    address: str


@dataclass(frozen=True)
class NodeRole:
    """What one node does: Ray counts `trainer_gpus` as GPU and `proxy_gpus` as the custom resource proxy_gpu."""

    rank: int
    name: str
    address: str
    trainer_gpus: int
    proxy_gpus: int
    """Of the node's GPUs the first `trainer_gpus` train and the last `proxy_gpus` serve the proxy."""


@dataclass(frozen=True)
class ClusterPlan:
    nodes: tuple[NodeRole, ...]

    @property
    def trainers(self) -> tuple[NodeRole, ...]:
        return tuple(node for node in self.nodes if node.trainer_gpus)

    @property
    def proxies(self) -> tuple[NodeRole, ...]:
        return tuple(node for node in self.nodes if node.proxy_gpus)

    @property
    def head(self) -> NodeRole:
        return self.nodes[0]


def plan_cluster(
    records: list[NodeRecord], gpus_per_node: int, proxy_nodes: int, shared_proxy_gpus: int
) -> ClusterPlan:
    """The last `proxy_nodes` nodes serve the proxy; a single node is shared: its last GPUs go to the proxy.

    Proxy nodes offer Ray no `GPU`, because verl counts every GPU of the cluster as its own.
    """
    ordered = sorted(records, key=lambda record: record.rank)
    if len({record.address for record in ordered}) != len(ordered):
        addresses = {record.name: record.address for record in ordered}
        listed = ", ".join(f"{name}={address}" for name, address in addresses.items())
        raise UserError(f"two nodes have the same address: {listed}", code="ray.duplicate-address", addresses=addresses)
    if len(ordered) == 1:
        if shared_proxy_gpus >= gpus_per_node > 0:
            raise UserError(
                f"one node with {gpus_per_node} GPUs cannot hold the trainer and {shared_proxy_gpus} GPUs of proxy; "
                "ask for more nodes (--nodes 2) or fewer proxy replicas",
                code="ray.node-too-small",
                gpus=gpus_per_node,
                proxy_gpus=shared_proxy_gpus,
            )
        node = ordered[0]
        return ClusterPlan(
            (NodeRole(0, node.name, node.address, gpus_per_node - shared_proxy_gpus, shared_proxy_gpus),)
        )
    if not 0 <= proxy_nodes < len(ordered):
        raise UserError(
            f"{proxy_nodes} proxy nodes of {len(ordered)} nodes leave none to train; lower proxy_nodes",
            code="ray.no-training-node",
            proxy_nodes=proxy_nodes,
            nodes=len(ordered),
        )
    first_proxy = len(ordered) - proxy_nodes
    roles = [
        NodeRole(r.rank, r.name, r.address, gpus_per_node, 0)
        if position < first_proxy
        else NodeRole(r.rank, r.name, r.address, 0, gpus_per_node)
        for position, r in enumerate(ordered)
    ]
    return ClusterPlan(tuple(roles))
