"""What RL rewards, one file each. Chosen by `--set STAGE.reward=NAME`, its options set by
`--set STAGE.reward.aggregation=bonus`; the contract is in `proxygrm.rewards.base`."""

from __future__ import annotations

from collections.abc import Mapping

from proxygrm.rewards.accuracy import Accuracy
from proxygrm.rewards.answers import AnswerMatch, Hybrid, RewardModelScore
from proxygrm.rewards.base import Reward
from proxygrm.rewards.consistency import Consistency, JudgementReward
from proxygrm.rewards.function import Function
from proxygrm.rewards.proxy_agreement import ProxyAgreement
from proxygrm.rewards.proxy_verdict import ProxyVerdict

__all__ = ["REWARDS", "Reward"]

REWARDS: Mapping[str, type[Reward]] = {
    "proxy_agreement": ProxyAgreement,
    "accuracy": Accuracy,
    "proxy_verdict": ProxyVerdict,
    "function": Function,
    "consistency": Consistency,
    "judgement": JudgementReward,
    "answer": AnswerMatch,
    "reward_model": RewardModelScore,
    "hybrid": Hybrid,
}
