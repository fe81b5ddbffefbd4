"""Dr. GRPO (arXiv 2503.20783): GRPO without the two divisions that favour long wrong answers and easy prompts.

No division by the group's deviation, and a constant instead of an answer's length in the loss. The paper also trains
without the KL term: set `kl_loss_coef=0`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxygrm.rl.algorithms.base import Algorithm, LossAggregation


@dataclass(frozen=True)
class DrGrpo(Algorithm):
    kind: str = field(default="dr_grpo", init=False)
    loss_agg_mode: LossAggregation = "seq-mean-token-sum-norm"

    @property
    def values(self) -> dict[str, object]:
        return {**super().values, "algorithm.norm_adv_by_std_in_grpo": False}
