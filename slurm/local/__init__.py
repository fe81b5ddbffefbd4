"""A real private SLURM on this machine, for the demo and the tests."""

from __future__ import annotations

from slurm.local.cluster import down, env, exports, up
from slurm.local.config import ClusterSpec
from slurm.local.status import ClusterStatus, DaemonStatus, NodeStatus, status

__all__ = [
    "ClusterSpec",
    "ClusterStatus",
    "DaemonStatus",
    "NodeStatus",
    "down",
    "env",
    "exports",
    "status",
    "up",
]
