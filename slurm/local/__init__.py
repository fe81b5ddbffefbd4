"""A real private SLURM on this machine, for the demo and the tests."""

from __future__ import annotations

from slurm.local.cluster import ClusterStatus, DaemonStatus, NodeStatus, down, env, exports, status, up
from slurm.local.config import ClusterSpec

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
