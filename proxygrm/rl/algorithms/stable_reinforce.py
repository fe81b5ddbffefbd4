"""StableReinforce (R1-Reward, arXiv 2505.02835): returns whitened over the batch, outliers dropped, the ratio clipped
before it is used. The paper trains with one answer per prompt and without KL: set `n=1` and `kl_loss_coef=0`.

Its loss is verl's own with these settings: verl's bound for tokens with a negative advantage (`clip_ratio_c`) is the
upper Pre-CLIP. See docs/rewards.md for the two corners in which they differ.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Literal

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.rl.algorithms.base import ACTOR, VERL_DEFAULTS, Algorithm, LossAggregation

PLUGIN = "proxygrm.rl.plugins.stable_reinforce"
OPTIONS = "PROXYGRM_STABLE_REINFORCE"
"""Variable with the plugin's options: verl's records of options are closed."""


@dataclass(frozen=True)
class StableReinforce(Algorithm):
    kind: str = field(default="stable_reinforce", init=False)
    loss_agg_mode: LossAggregation = "seq-mean-token-mean"
    gamma: float = 1.0
    """Discount per token, from the last one backwards."""
    rule: Literal["paper", "code"] = "paper"
    """Which whitened returns are dropped: the paper's |z| > limit, or the window of the code released with it."""
    limit: float = 3.0
    """The advantage filter's, in standard deviations; inf turns the paper's rule off."""
    clip_ratio_c: float = 1000.0
    """The upper Pre-CLIP: the ratio at which a token with a negative advantage stops to count for more. 1e9: none."""
    kl_in_reward: float = 0.0
    """Subtract this times log(actor / reference) from every token's reward. The released script has 1e-3."""
    max_log_prob_distance: float = 0.1
    """End the run at its first step if the rollouts' log-probabilities are further than this from the actor's, on
    average: the two do not see the same input, such as the image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(
            f"rl.algorithm ({self.kind})",
            self,
            positive=("gamma", "limit", "max_log_prob_distance"),
            unlimited=("limit", "max_log_prob_distance"),
            shares=("gamma",),
            from_zero=("kl_in_reward",),
        )
        if self.bypass_mode and self.max_log_prob_distance < math.inf:
            raise UserError(
                f"rl.algorithm ({self.kind}): with bypass_mode nothing computes the actor's log-probabilities that "
                "max_log_prob_distance compares; set one of bypass_mode=false and max_log_prob_distance=inf",
                code="settings.contradiction",
                name="bypass_mode",
                value=True,
            )
        if not 1 < self.clip_ratio_c < math.inf:
            raise UserError(
                f"rl.algorithm ({self.kind}): clip_ratio_c is {self.clip_ratio_c}; it must be above 1 and finite",
                code="settings.out-of-range",
                name="clip_ratio_c",
                value=self.clip_ratio_c,
            )

    @property
    def estimator(self) -> str:
        return "stable_reinforce"

    @property
    def compares_groups(self) -> bool:
        return False

    @property
    def plugin(self) -> str:
        return PLUGIN

    @property
    def environment(self) -> dict[str, str]:
        options = {"rule": self.rule, "limit": self.limit, "max_log_prob_distance": self.max_log_prob_distance}
        return {OPTIONS: json.dumps(options)}

    @property
    def values(self) -> dict[str, object]:
        return {
            **super().values,
            "algorithm.gamma": self.gamma,
            "algorithm.use_kl_in_reward": self.kl_in_reward > 0,
            "algorithm.kl_ctrl.kl_coef": self.kl_in_reward or VERL_DEFAULTS["algorithm.kl_ctrl.kl_coef"],
            ACTOR + "clip_ratio_c": self.clip_ratio_c,
        }
