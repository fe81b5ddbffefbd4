"""The reward head and the loss of a scalar reward model (`swift rlhf --rlhf_type rm`), and how they reach ms-swift.

ms-swift has no arguments for the head: its plug-in reads one variable, and writes the head into the checkpoint's
config.json, by which a scalar reward model is recognised afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from proxygrm.core.bounds import check_bounds

ACTIVATIONS = ("none", "tanh", "silu")
VARIABLE = "PROXYGRM_REWARD_MODEL"
"""A `RewardModelSettings` as JSON."""
PLUGIN = Path(__file__).with_name("plugin.py")


@dataclass(frozen=True)
class RewardModelSettings:
    """The defaults are BaseReward's (arXiv 2509.16127): two layers with SiLU between them, and the plain Bradley-Terry
    loss -log sigmoid(r_chosen - r_rejected)."""

    layers: int = 2
    """Linear layers of the head; all but the last keep the hidden size and are followed by the activation."""
    activation: str = "silu"
    """none, tanh or silu."""
    center_rewards_coefficient: float = 0.0
    """Adds this times mean((r_chosen + r_rejected)^2) to the loss, which keeps rewards around zero; 0 adds nothing."""
    length_normalisation: bool = False
    """Divide rewards by ln(tokens of the response + 1), in training and in scoring."""
    margin: float = 0.0
    """By how much r_chosen is to exceed r_rejected: -log sigmoid(r_chosen - r_rejected - margin). A row's own `margin`
    is added to it."""

    def __post_init__(self) -> None:
        check_bounds(
            "reward_model",
            self,
            from_one=("layers",),
            from_zero=("center_rewards_coefficient", "margin"),
            choices={"activation": ACTIVATIONS},
        )

    @property
    def recorded(self) -> dict[str, Any]:
        """What config.json says of the head (`core.checkpoints.scalar.HEAD`): what the scores depend on."""
        return {"layers": self.layers, "activation": self.activation, "length_normalisation": self.length_normalisation}

    @property
    def text(self) -> str:
        """For VARIABLE."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        return cls(**json.loads(environment.get(VARIABLE, "{}")))
