"""Is Ray complete over the job's nodes, and does it stay so?"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from slurm.ray.handle import ClusterLost
from slurm.ray.node import RayNode
from slurm.ray.plan import ClusterPlan
from slurm.ray.rendezvous import Rendezvous


def head_address(node: RayNode, deadline: float) -> str:
    """Of the head that was just started, as it reports it itself: no other listener here can be taken for it."""
    while (address := node.head_address()) is None:
        if death := node.death():
            raise ClusterLost(f"node {node.role.name}: {death}", node=node.role.name)
        if time.monotonic() > deadline:
            raise ClusterLost(
                f"node {node.role.name}: Ray's head never opened a port; see {node.log}",
                code="ray.no-head",
                node=node.role.name,
                log=node.log,
            )
        time.sleep(0.1)
    return address


def wait_until_complete(
    plan: ClusterPlan,
    nodes: Callable[[], list[dict[str, Any]]],
    rendezvous: Rendezvous,
    node: RayNode,
    deadline: float,
) -> None:
    """Until every node and every GPU is counted. ClusterLost after the deadline, with the sum and who is missing."""
    while True:
        alive = {row["NodeManagerAddress"]: row["Resources"] for row in nodes() if row["Alive"]}
        missing = [role for role in plan.nodes if role.address not in alive]
        gpus = sum(resources.get("GPU", 0) for resources in alive.values())
        expected_gpus = sum(role.trainer_gpus for role in plan.nodes)
        expected = [(role.address, name, count) for role in plan.nodes for name, count in role.resources().items()]
        service_gpus = sum(alive.get(address, {}).get(name, 0) for address, name, _ in expected)
        expected_service_gpus = sum(count for _, _, count in expected)
        if not missing and gpus == expected_gpus and service_gpus == expected_service_gpus:
            return
        if failure := rendezvous.failure() or node.death():
            raise ClusterLost(failure)
        if time.monotonic() > deadline:
            names = ", ".join(f"{role.name} ({role.address})" for role in missing) or "none"
            raise ClusterLost(
                f"Ray is not complete: {len(alive)} of {len(plan.nodes)} nodes (missing: {names}), "
                f"{gpus:.0f} of {expected_gpus} trainer GPUs, "
                f"{service_gpus:.0f} of {expected_service_gpus} GPUs of services",
                code="ray.incomplete",
                missing=[role.name for role in missing],
                gpus=gpus,
                service_gpus=service_gpus,
            )
        time.sleep(0.5)


def reported_failure(rendezvous: Rendezvous, node: RayNode) -> str | None:
    """The death of this node's Ray, or what another node has reported."""
    if death := node.death():
        return f"node {node.role.name}: {death}"
    return rendezvous.failure()


def lost_node(plan: ClusterPlan, nodes: Callable[[], list[dict[str, Any]]]) -> str | None:
    """The first node that Ray's head counts as dead."""
    dead = {row["NodeManagerAddress"] for row in nodes() if not row["Alive"]}
    lost = [role for role in plan.nodes if role.address in dead]
    return f"node {lost[0].name}: Ray lost it" if lost else None


def head_answers(rendezvous: Rendezvous) -> bool:
    """True when Ray's head accepts connections: then this node's Ray did not end because the job did."""
    host, _, port = (rendezvous.read("head.json") or ":0").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True
