"""How scores become gradients: one file per algorithm, most of them verl's own. Chosen by `--set STAGE.algorithm=NAME`,
its options set by `--set STAGE.algorithm.clip_ratio_high=0.28`."""

from __future__ import annotations

from collections.abc import Mapping

from proxygrm.rl.algorithms.base import Algorithm
from proxygrm.rl.algorithms.dapo import Dapo
from proxygrm.rl.algorithms.dr_grpo import DrGrpo
from proxygrm.rl.algorithms.grpo import Grpo
from proxygrm.rl.algorithms.gspo import Gspo
from proxygrm.rl.algorithms.reinforce_plus_plus import ReinforcePlusPlus
from proxygrm.rl.algorithms.rloo import Rloo
from proxygrm.rl.algorithms.stable_reinforce import StableReinforce

__all__ = ["ALGORITHMS", "Algorithm"]

ALGORITHMS: Mapping[str, type[Algorithm]] = {
    "grpo": Grpo,
    "dr_grpo": DrGrpo,
    "dapo": Dapo,
    "gspo": Gspo,
    "rloo": Rloo,
    "reinforce_plus_plus": ReinforcePlusPlus,
    "stable_reinforce": StableReinforce,
}
