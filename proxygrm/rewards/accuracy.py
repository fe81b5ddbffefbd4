"""Accuracy + half a point for the format of a critique; nobody is asked: the paper's reward without a proxy."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxygrm.critique.contract import Critique, parse
from proxygrm.rewards.base import Ask, Rating, Rollout
from proxygrm.rewards.critiques import VerdictReward, rating
from proxygrm.rewards.proxy_agreement import score


@dataclass(frozen=True)
class Accuracy(VerdictReward):
    kind: str = field(default="accuracy", init=False)

    def read(self, text: str) -> Critique:
        return parse(text)

    async def rate(self, rollout: Rollout, parsed: Critique, ask: Ask) -> Rating:
        return rating(score(parsed, rollout.label, None, use_proxy=False))
