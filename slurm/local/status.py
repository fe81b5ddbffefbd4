"""What of a private cluster is running."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from slurm.local import folder as folders
from slurm.local import processes
from slurm.local.binaries import find_programs
from slurm.local.config import nodes_of
from slurm.local.daemons import Cluster, cluster_of


@dataclass(frozen=True)
class DaemonStatus:
    name: str
    pid: int | None
    """None: not running."""
    memory_mb: float


@dataclass(frozen=True)
class NodeStatus:
    name: str
    state: str
    gpus: str
    address: str
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class ClusterStatus:
    folder: Path
    exists: bool
    """Whether a cluster was ever created in the folder."""
    up: bool
    """Every daemon runs and the controller answers."""
    port: int | None
    daemons: tuple[DaemonStatus, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()
    """Empty while the controller does not answer."""

    @property
    def memory_mb(self) -> float:
        return sum(daemon.memory_mb for daemon in self.daemons)


def status(folder: Path | str | None = None) -> ClusterStatus:
    """The processes and nodes now. Changes nothing; also for a cluster that is stopped or was never created."""
    path = folders.resolve(folder)
    folders.refuse_foreign_cluster(path)
    record = folders.read_record(path)
    if record is None:
        return ClusterStatus(path, exists=False, up=False, port=None)
    cluster = cluster_of(path, record, record.port or 0, find_programs())
    living = processes.daemons(record.id)
    daemons = tuple(
        DaemonStatus(name, living[name].pid, processes.memory_mb(living[name].pid))
        if name in living
        else DaemonStatus(name, None, 0.0)
        for name in cluster.daemon_names
    )
    answers = "slurmctld" in living and cluster.answers("slurmctld")
    nodes = _node_status(cluster) if answers else ()
    return ClusterStatus(path, True, answers and len(living) == len(daemons), record.port, daemons, nodes)


def _node_status(cluster: Cluster) -> tuple[NodeStatus, ...]:
    addresses = {node.name: node.address for node in nodes_of(cluster.spec, cluster.ports)}
    text = cluster.ask("sinfo", "-h", "-N", "-o", "%N|%T|%G|%R").stdout
    nodes: dict[str, NodeStatus] = {}
    for line in text.splitlines():
        name, state, gpus, partition = line.split("|")
        gpus = re.sub(r"\(.*?\)", "", gpus)
        node = nodes.get(name, NodeStatus(name, state, gpus, addresses.get(name, "?"), ()))
        nodes[name] = replace(node, partitions=(*node.partitions, partition))
    return tuple(nodes.values())
