"""R1-Reward's reward (arXiv 2505.02835): the right answer, the format, and whether reasoning and answer agree.

    score = accuracy x (1 + 0.5 x consistency) + 0.5 x format

A judge decides on the consistency, a service of the RL job called `judge`: any OpenAI-compatible server. It gets text
only, the end of the reasoning and the answer as a phrase, and never the label. It is asked only about right answers,
since it cannot change the score of others. Without a readable reply the rollout is unscored: the released code gives
such a rollout a consistency of 0, which is neither of the judge's replies.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.labels import Label, as_label
from proxygrm.critique.prompts import consistency_prompt
from proxygrm.critique.think_answer import Judgement, parse
from proxygrm.rewards.base import Ask, Post, Rating, Reward, Rollout, Row, mean

JUDGE = "judge"
"""Name of the service."""
CONSISTENCY_WEIGHT = 0.5
FORMAT_WEIGHT = 0.5
_LEAD_IN = re.compile(r"output:\s*", re.IGNORECASE)


def accuracy(judgement: Judgement, golds: Collection[Label]) -> int:
    return int(judgement.verdict in golds)


def score(accuracy: int, well_formed: bool, consistency: float) -> float:
    """The formula. consistency: 0 where it does not count."""
    return accuracy * (1 + CONSISTENCY_WEIGHT * consistency) + FORMAT_WEIGHT * well_formed


def read_reply(reply: Any) -> tuple[bool | None, str]:
    """(whether reasoning and answer agree, "") from the judge's reply, or (None, a word for what is wrong with it).

    Only a lone 0 or 1 is a reply, after "Output:" if need be. (The released code looks for the digits anywhere: "10"
    and "0.9" are its 0, "-1" its 1.)
    """
    text = reply.strip() if isinstance(reply, str) else ""
    text = text[match.end() :] if (match := _LEAD_IN.match(text)) else text
    if text in ("0", "1"):
        return text == "1", ""
    if not text:
        return None, "judge_empty"
    return None, "judge_other_number" if re.fullmatch(r"[+-]?[\d.,]+", text) else "judge_prose"


@dataclass(frozen=True)
class JudgementReward(Reward):
    """Without a consistency: accuracy + 0.5 x format of a judgement. Nobody is asked."""

    kind: str = field(default="judgement", init=False)
    judges_pairs: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ("accuracy", "format")

    def read(self, text: str) -> Judgement:
        return parse(text)

    async def rate(self, rollout: Rollout, parsed: Judgement, ask: Ask) -> Rating:
        right = accuracy(parsed, {as_label(rollout.label)})
        numbers = {"accuracy": float(right), "format": float(parsed.well_formed)}
        return Rating(score(right, parsed.well_formed, 0), numbers, problem=parsed.problem)


@dataclass(frozen=True)
class Consistency(JudgementReward):
    kind: str = field(default="consistency", init=False)
    inconsistent: float = -1.0
    """What an answer counts that does not follow from its reasoning: -1 as in the released code, or 0, as the paper can
    be read. One that follows counts 1."""
    model: str = ""
    """Name of the judge's model; "" for a server that has only one, as vLLM's."""
    tries: int = 3
    """Replies without a lone 0 or 1 before the rollout is unscored."""
    temperature: float = 0.1
    max_tokens: int = 64
    """Of a reply. A judge that thinks before it answers needs more."""
    asks: ClassVar[str] = JUDGE
    prompts: ClassVar[tuple[str, ...]] = ("consistency",)
    columns: ClassVar[tuple[str, ...]] = ("accuracy", "format", "consistency", "judged")

    def __post_init__(self) -> None:
        check_bounds(f"rl.reward ({self.kind})", self, from_one=("tries", "max_tokens"), from_zero=("temperature",))
        if not -1 <= self.inconsistent < 1:
            raise UserError(
                f"rl.reward ({self.kind}): inconsistent is {self.inconsistent}; it must be from -1 to below 1",
                code="settings.out-of-range",
                name="inconsistent",
                value=self.inconsistent,
            )

    def to_judge(self, parsed: Judgement) -> Post | None:
        if parsed.verdict is None:
            return None
        content = consistency_prompt(parsed.excerpt, parsed.answer_phrase)
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        return Post("/v1/chat/completions", {"model": self.model, **body} if self.model else body)

    async def rate(self, rollout: Rollout, parsed: Judgement, ask: Ask) -> Rating:
        without = await super().rate(rollout, parsed, ask)
        if not without.numbers["accuracy"]:
            return without
        agrees, why = await self._ask_until_read(parsed, ask)
        if agrees is None:
            return Rating(0.0, without.numbers, unscored=True, problem=why)
        value = 1.0 if agrees else self.inconsistent
        numbers = {**without.numbers, "consistency": value, "judged": 1.0}
        return Rating(score(1, parsed.well_formed, value), numbers, problem=parsed.problem)

    async def _ask_until_read(self, parsed: Judgement, ask: Ask) -> tuple[bool | None, str]:
        agrees, why = None, ""
        for _ in range(self.tries):
            answer = await ask(self.to_judge(parsed))
            if answer.why:
                return None, answer.why
            agrees, why = read_reply(_content(answer.body))
            if agrees is not None:
                break
        return agrees, why

    def metrics(self, rows: Sequence[Row]) -> dict[str, float]:
        """`reward/accuracy` and `reward/format` are shares of the scored rollouts, `reward/consistent` of the judged
        ones; `reward/judged` is the share of all rollouts whose right answer a judge decided on."""
        scored = [row for row in rows if not row["unscored"]]
        judged = [row for row in scored if row["judged"]]
        metrics = {
            "reward/accuracy": mean([row["accuracy"] for row in scored]),
            "reward/format": mean([row["format"] for row in scored]),
            "reward/judged": len(judged) / len(rows) if rows else 0.0,
        }
        if judged:
            metrics["reward/consistent"] = mean([float(row["consistency"] == 1) for row in judged])
        return metrics


def _content(body: Any) -> Any:
    """The reply's text; None where the body is not a chat completion."""
    try:
        return body["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None


def read_consistency(row: Mapping[str, Any]) -> float | None:
    """The row's number for the formula, None where there is none. Raises KeyError, ValueError."""
    value = row["consistency"]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise ValueError(f"consistency is {value!r:.60}, it must be a number from -1 to 1, or null")
    return float(value)
