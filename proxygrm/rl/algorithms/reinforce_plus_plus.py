"""REINFORCE++ (arXiv 2501.03262): scores normalised over the whole batch; with `baseline`, the group's mean first."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxygrm.core.bounds import check_bounds
from proxygrm.rl.algorithms.base import Algorithm


@dataclass(frozen=True)
class ReinforcePlusPlus(Algorithm):
    kind: str = field(default="reinforce_plus_plus", init=False)
    baseline: bool = False
    """Subtract the group's mean score (verl's reinforce_plus_plus_baseline, which does not discount)."""
    gamma: float = 1.0
    """Discount per token, from the last one backwards."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("rl.algorithm (reinforce_plus_plus)", self, positive=("gamma",), shares=("gamma",))

    @property
    def estimator(self) -> str:
        return "reinforce_plus_plus_baseline" if self.baseline else "reinforce_plus_plus"

    @property
    def compares_groups(self) -> bool:
        return self.baseline

    @property
    def values(self) -> dict[str, object]:
        return {**super().values, "algorithm.gamma": self.gamma}
