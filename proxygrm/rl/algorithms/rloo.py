"""RLOO (arXiv 2402.14740): a rollout's baseline is the mean score of the others in its group."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxygrm.rl.algorithms.base import Algorithm


@dataclass(frozen=True)
class Rloo(Algorithm):
    kind: str = field(default="rloo", init=False)

    @property
    def estimator(self) -> str:
        return "rloo"
