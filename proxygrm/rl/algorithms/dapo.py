"""DAPO (arXiv 2503.14476): GRPO that clips later upwards ("clip-higher") and averages over tokens, not answers.

Its dynamic sampling and its penalty on long answers are not here: both change which rollouts count, and our sampler
accounts for every one. The paper also trains without the KL term: set `kl_loss_coef=0`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxygrm.rl.algorithms.grpo import Grpo


@dataclass(frozen=True)
class Dapo(Grpo):
    kind: str = field(default="dapo", init=False)
    clip_ratio_high: float = 0.28
