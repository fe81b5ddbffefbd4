"""GSPO (arXiv 2507.18071): GRPO's advantages, with one probability ratio per answer, so the clips are far smaller."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxygrm.rl.algorithms.base import ACTOR, LossAggregation
from proxygrm.rl.algorithms.grpo import Grpo


@dataclass(frozen=True)
class Gspo(Grpo):
    kind: str = field(default="gspo", init=False)
    clip_ratio_low: float = 3e-4
    clip_ratio_high: float = 4e-4
    loss_agg_mode: LossAggregation = "seq-mean-token-mean"

    @property
    def values(self) -> dict[str, object]:
        return {**super().values, ACTOR + "policy_loss.loss_mode": "gspo"}
