"""The measurements of one node before work starts on it. Values only, exchanged between a job's nodes as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stale:
    """A process of this user on this node whose job has ended."""

    pid: int
    job: str
    command: str
    ours: bool
    """Started by this suite, by its environment."""
    ended: bool = False
    """The preflight has ended it."""


@dataclass(frozen=True)
class Offset:
    """Seconds this node's clock is ahead of rank 0's, with an error of at most `error_s`."""

    seconds: float
    error_s: float


@dataclass(frozen=True)
class NodeHealth:
    """None, and an empty list of GPU figures, mean: not measured on this node, so not judged."""

    rank: int
    node: str
    gpus: int = 0
    """GPUs this job sees on the node."""
    gpu_free: list[float] = field(default_factory=list)
    """Share of each GPU's memory that is free."""
    ecc_errors: int = 0
    """Uncorrected errors of GPU memory since the driver was loaded."""
    gemm_s: float | None = None
    """A matrix product, the best of several; of several GPUs the slowest one's."""
    links_s: dict[str, float | None] = field(default_factory=dict)
    """Rank of a neighbour -> seconds of an all-reduce with it, the best of several; None: it failed."""
    links_why: dict[str, str] = field(default_factory=dict)
    """Rank of a neighbour -> why the all-reduce with it failed."""
    shm_free_gb: float | None = None
    clock: Offset | None = None
    unreachable: str | None = None
    """Why this node could not connect to rank 0."""
    command_output: str | None = None
    """Last line of the site's own check where it failed."""
    problem: str | None = None
    """Why the node could not measure."""
    stale: list[Stale] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> NodeHealth:
        clock = Offset(**row["clock"]) if row["clock"] else None
        return cls(**{**row, "clock": clock, "stale": [Stale(**stale) for stale in row["stale"]]})
