"""The nodes that one training spreads over, as the process of one of them sees them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

NODES = "--nodes"


@dataclass(frozen=True)
class Nodes:
    count: int = 1
    rank: int = 0
    """Of this node."""
    address: str = "127.0.0.1"
    """Of this node; on several, one that the others reach."""
    interface: str = "lo"
    """Network interface of that address, for Gloo and NCCL."""
    meeting: str = ""
    """On several nodes: file on the shared file system, of this attempt alone, where node 0 writes its port."""

    @property
    def words(self) -> list[str]:
        """For `launch`."""
        return [NODES, json.dumps(asdict(self))] if self.count > 1 else []
