"""Rewards of a policy that answers questions: the reference answer, a reward model, or both (BaseReward's hybrid).

    answer         1 where the final answer matches the reference answer, else 0
    reward_model   what the reward model says of the response
    hybrid         1 where it matches, else the sigmoid of the reward model's score

The reward model is a service of the RL job called `reward_model`, with the API of `proxygrm serve-reward`. One that
scores is asked for the score of the response. One that judges steps scores a solution in steps, which `steps` asks the
policy for. One that writes is asked to compare it, in both orders, with the row's reference response: 1 for a win, 0
for a loss, 0.5 for neither. What it does not answer has no reward, and is counted by its cause; so has a question
without a reference answer where nothing else is asked. A response without text earns 0 where no reward is lower
(`answer`, `hybrid`, and with `steps`), and has no reward otherwise; it is counted as `empty`. With `steps`, one that is
no solution earns 0 too, whatever it answers, and is counted as `no_steps`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from proxygrm.core.errors import UserError
from proxygrm.process.match.answers import answers_equal
from proxygrm.process.policy_json import MAX_STEPS, final_answer, steps_of
from proxygrm.rewards.base import Ask, Post, Rating, Reward, Rollout, Row, mean

SERVICE = "reward_model"
"""Name of the service."""
EMPTY, NO_STEPS, NO_ANSWER, NO_REFERENCE = "empty", "no_steps", "no_answer", "no_reference"
GARBAGE = f"{SERVICE}_garbage"


def matches(text: str, rollout: Rollout) -> bool | None:
    """Whether a response's final answer is one of the row's; None where the row has none."""
    answers = list(rollout.extra_info.get("answers") or ())
    choices = list(rollout.extra_info.get("choices") or ())
    return answers_equal(final_answer(text), answers, choices or None) if answers else None


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@dataclass(frozen=True)
class AnswerMatch(Reward):
    """The rule. Nobody is asked."""

    kind: str = field(default="answer", init=False)
    steps: bool = False
    """The policy is asked for solutions in steps, which a process model scores."""
    columns: ClassVar[tuple[str, ...]] = ("matches", "has_answer", "model_score", "asked")

    async def rate(self, rollout: Rollout, parsed: str, ask: Ask) -> Rating:
        right = matches(parsed, rollout)
        if right is None:
            return Rating(0.0, unscored=True, problem=NO_ANSWER)
        problem = self.unusable(parsed)
        return Rating(0.0 if problem else float(right), _matched(right), problem=problem)

    def unusable(self, text: str) -> str:
        """Why a response is none, in a word; "" where it is one."""
        if not text.strip():
            return EMPTY
        return NO_STEPS if self.steps and not 1 <= len(steps_of(text)[0]) <= MAX_STEPS else ""

    def metrics(self, rows: Sequence[Row]) -> dict[str, float]:
        """`reward/matches` is the share of right answers where the row has one, `reward/model_score` the mean of what
        the reward model said, `reward/asked` the share of rollouts it was asked about, `reward/empty` that of
        responses without text, `reward/no_steps` that of texts that are not solutions in steps."""
        scored = [row for row in rows if not row["unscored"]]
        known, asked = ([row for row in scored if row[name]] for name in ("has_answer", "asked"))
        problems = (EMPTY, NO_STEPS) if self.steps else (EMPTY,)
        metrics = {f"reward/{name}": mean([float(row["problem"] == name) for row in rows]) for name in problems}
        if known:
            metrics["reward/matches"] = mean([row["matches"] for row in known])
        if self.asks:
            metrics["reward/asked"] = len(asked) / len(rows) if rows else 0.0
        if asked:
            metrics["reward/model_score"] = mean([row["model_score"] for row in asked])
        return metrics


@dataclass(frozen=True)
class AsksRewardModel(AnswerMatch):
    """What rewards that ask the reward model have in common."""

    compares: bool = False
    """Ask for a comparison with the reference response: for a generative model, which cannot score one response."""
    asks: ClassVar[str] = SERVICE

    def __post_init__(self) -> None:
        if self.compares and self.steps:
            raise UserError(
                "a reference response has no steps to compare with: leave out compares, or steps",
                code="settings.contradiction", name="compares", value=True,
            )  # fmt: skip

    async def asked(self, rollout: Rollout, text: str, ask: Ask, numbers: dict[str, float], squash: bool) -> Rating:
        """What the reward model says. numbers: what is known already; squash: the sigmoid of a score instead."""
        reference = str(rollout.extra_info.get("reference") or "")
        if self.compares and not reference.strip():
            return Rating(0.0, numbers, unscored=True, problem=NO_REFERENCE)
        answer = await ask(_post(rollout, text, reference if self.compares else None))
        if answer.why:
            return Rating(0.0, numbers, unscored=True, problem=answer.why)
        value = _share(answer.body) if self.compares else _score(answer.body)
        if value is None:
            return Rating(0.0, numbers, unscored=True, problem=GARBAGE)
        reward = sigmoid(value) if squash and not self.compares else value
        return Rating(reward, {**numbers, "model_score": value, "asked": 1.0})


@dataclass(frozen=True)
class RewardModelScore(AsksRewardModel):
    """The reward model alone. Whether the answer matches is counted, and earns nothing."""

    kind: str = field(default="reward_model", init=False)
    squash: bool = False
    """Reward the sigmoid of a score, not the score itself."""

    async def rate(self, rollout: Rollout, parsed: str, ask: Ask) -> Rating:
        numbers = _matched(matches(parsed, rollout))
        if problem := self.unusable(parsed):  # a process model's scores are from 0 to 1
            return Rating(0.0, numbers if self.steps else {}, unscored=not self.steps, problem=problem)
        return await self.asked(rollout, parsed, ask, numbers, self.squash)


@dataclass(frozen=True)
class Hybrid(AsksRewardModel):
    """1 where the answer matches, else the reward model, squashed to between 0 and 1."""

    kind: str = field(default="hybrid", init=False)

    async def rate(self, rollout: Rollout, parsed: str, ask: Ask) -> Rating:
        right = matches(parsed, rollout)
        numbers = _matched(right)
        if problem := self.unusable(parsed):
            return Rating(0.0, numbers, problem=problem)
        return Rating(1.0, numbers) if right else await self.asked(rollout, parsed, ask, numbers, squash=True)


def _matched(right: bool | None) -> dict[str, float]:
    return {} if right is None else {"matches": float(right), "has_answer": 1.0}


def _post(rollout: Rollout, text: str, reference: str | None) -> Post:
    asked = {"question": rollout.extra_info["question"], "images": list(rollout.extra_info.get("images") or ())}
    if reference is None:
        return Post("/score", {**asked, "responses": [text]})
    return Post("/compare", {**asked, "response_1": text, "response_2": reference, "orders": "both"})


def _score(body: Any) -> float | None:
    """Of the one response; None for anything else than one finite number."""
    try:
        (score,) = body["scores"]
    except (KeyError, TypeError, ValueError):
        return None
    number = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
    return float(score) if number else None


def _share(body: Any) -> float | None:
    """Of wins over the reference."""
    if not isinstance(body, dict) or "verdict" not in body:
        return None
    return {1: 1.0, 2: 0.0, None: 0.5}.get(body["verdict"])
