"""The reward of a proxy that is itself trained by RL: accuracy + half a point for the format of its own verdict.

The paper's Proxy-RL; its text names accuracy and format and gives no weights, so they are those of the reward model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxygrm.core.labels import as_label
from proxygrm.critique.contract import parse_proxy_answer
from proxygrm.rewards.base import Ask, Rating, Rollout
from proxygrm.rewards.critiques import RewardParts, VerdictReward, accuracy_and_format, rating


@dataclass(frozen=True)
class ProxyVerdict(VerdictReward):
    kind: str = field(default="proxy_verdict", init=False)

    async def rate(self, rollout: Rollout, parsed: str, ask: Ask) -> Rating:
        return rating(score_proxy(parsed, rollout.label))


def score_proxy(response: str, ground_truth: str | int) -> RewardParts:
    """Pure. Raises ValueError for an invalid label."""
    answer = parse_proxy_answer(response)
    problem = None if answer.well_formed else "proxy_layout" if answer.verdict else "proxy_no_verdict"
    return accuracy_and_format(answer.verdict == as_label(ground_truth), answer.well_formed, problem)
