"""GRPO (arXiv 2402.03300): a rollout's advantage is its score minus its group's mean, over the group's deviation."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxygrm.rl.algorithms.base import Algorithm


@dataclass(frozen=True)
class Grpo(Algorithm):
    kind: str = field(default="grpo", init=False)
    norm_adv_by_std_in_grpo: bool = True
    """Divide by the group's standard deviation."""

    @property
    def values(self) -> dict[str, object]:
        return {**super().values, "algorithm.norm_adv_by_std_in_grpo": self.norm_adv_by_std_in_grpo}
