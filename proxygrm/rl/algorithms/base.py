"""What every algorithm has: its options, which are the fields, and verl's overrides written from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError

LossAggregation = Literal[
    "token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"
]
ACTOR = "actor_rollout_ref.actor."
CORRECTION = "algorithm.rollout_correction."
VERL_DEFAULTS: dict[str, object] = {
    "algorithm.norm_adv_by_std_in_grpo": True,
    "algorithm.gamma": 1.0,
    "algorithm.use_kl_in_reward": False,
    "algorithm.kl_ctrl.kl_coef": 0.001,
    ACTOR + "policy_loss.loss_mode": "vanilla",
    ACTOR + "clip_ratio_low": 0.2,
    ACTOR + "clip_ratio_high": 0.2,
    ACTOR + "clip_ratio_c": 3.0,
    ACTOR + "loss_agg_mode": "token-mean",
    CORRECTION + "bypass_mode": False,
    CORRECTION + "rollout_is": None,
    CORRECTION + "rollout_is_threshold": 2.0,
}
"""verl 0.9.1's own values: what equals them is not written out."""


@dataclass(frozen=True)
class Algorithm:
    """Options that all have, under verl's names. A new one: a file beside this one, and its class in `ALGORITHMS`."""

    kind: str = field(default="", init=False)
    """Its name in `ALGORITHMS`."""
    clip_ratio_low: float = 0.2
    """The probability ratio is clipped to 1 - this ..."""
    clip_ratio_high: float = 0.2
    """... and 1 + this."""
    loss_agg_mode: LossAggregation = "token-mean"
    """How the tokens' losses become one: over all tokens of a batch, or over answers first."""
    rollout_is: Literal["none", "token", "sequence"] = "none"
    """Importance weights for the difference between vLLM's probabilities and the trainer's, cut off at a limit."""
    rollout_is_threshold: float = 2.0
    bypass_mode: bool = False
    """Compare with vLLM's probabilities in the ratio: the trainer does not compute those of the rollouts once more
    before its first update, and their entropy is not measured."""

    def __post_init__(self) -> None:
        check_bounds(
            f"rl.algorithm ({self.kind})",
            self,
            positive=("clip_ratio_low", "clip_ratio_high", "rollout_is_threshold"),
        )
        if self.clip_ratio_low > 1:
            raise UserError(
                f"rl.algorithm ({self.kind}): clip_ratio_low is {self.clip_ratio_low}; it must be at most 1",
                code="settings.out-of-range",
                name="clip_ratio_low",
                value=self.clip_ratio_low,
            )
        if self.bypass_mode and self.rollout_is != "none":
            raise UserError(
                f"rl.algorithm ({self.kind}): with bypass_mode the ratio itself is taken to vLLM's probabilities, and "
                f"verl applies no other weights; set rollout_is=none (it is {self.rollout_is})",
                code="settings.contradiction",
                name="rollout_is",
                value=self.rollout_is,
            )

    @property
    def estimator(self) -> str:
        """verl's advantage estimator."""
        return "grpo"

    @property
    def compares_groups(self) -> bool:
        """A rollout's advantage depends on the others of its prompt, so each prompt needs at least two."""
        return True

    @property
    def plugin(self) -> str:
        """Module that every process of the training imports with verl; "" for what verl has itself."""
        return ""

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every process of the training."""
        return {}

    @property
    def values(self) -> dict[str, object]:
        """verl's keys and values, defaults included."""
        return {
            ACTOR + "clip_ratio_low": self.clip_ratio_low,
            ACTOR + "clip_ratio_high": self.clip_ratio_high,
            ACTOR + "loss_agg_mode": self.loss_agg_mode,
            CORRECTION + "bypass_mode": self.bypass_mode,
            CORRECTION + "rollout_is": None if self.rollout_is == "none" else self.rollout_is,
            CORRECTION + "rollout_is_threshold": self.rollout_is_threshold,
        }

    def overrides(self) -> dict[str, object]:
        """The estimator, and the values that are not verl's own."""
        changed = {key: value for key, value in self.values.items() if value != VERL_DEFAULTS[key]}
        return {"algorithm.adv_estimator": self.estimator, **changed}
