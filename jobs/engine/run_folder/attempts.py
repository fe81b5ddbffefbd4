"""The identity of an attempt, the same in owner.N.json, FAILED.N.json and the marks of other nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from slurm.health.preflight.bad_nodes import job_name, restarts


@dataclass(frozen=True)
class Attempt:
    """One start of one job (or array element); all its nodes have the same one."""

    job: str
    """As scontrol takes it: "12", or "12_3" for an element of an array."""
    restart: int
    """How often the job had been requeued before."""

    @classmethod
    def current(cls) -> Attempt:
        """That of this process, from SLURM's environment."""
        return cls(job_name(), restarts())

    @property
    def number(self) -> int:
        """Counted from 1, as users see it."""
        return self.restart + 1

    def wrote(self, record: Mapping[str, Any] | None) -> bool:
        """Whether this attempt wrote the record."""
        return record is not None and record.get("attempt") == asdict(self)

    def __str__(self) -> str:
        return f"job {self.job}, attempt {self.number}"
