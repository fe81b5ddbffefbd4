"""A judge that decides by a rubric: it sees image, question, responses and the closed rubric, not the critique."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from proxygrm.critique.prompts import prompt_hash, proxy_prompt
from proxygrm.evaluate.judges.base import Judge, text_hash
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.judges.select import judge_for
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.settings import EvaluateSettings

WITHOUT_RUBRIC = "none"


@dataclass(frozen=True)
class PairWithRubric(OrderedPair):
    """An ordered pair with the closed rubric that the judge is given, or None."""

    rubric: str | None = None

    @property
    def key(self) -> str:
        """Depends on everything the judge sees, so equal prompts of two conditions or models are judged once."""
        return f"{super().key}/{text_hash(self.rubric) if self.rubric else WITHOUT_RUBRIC}"


def with_rubric(ordered: OrderedPair, rubric: str | None) -> PairWithRubric:
    return PairWithRubric(ordered.pair, ordered.order, ordered.copy, ordered.sample, rubric)


def rubric_prompt(ordered: OrderedPair) -> str:
    """The proxy's instruction, without image tags: the images precede it."""
    rubric = ordered.rubric if isinstance(ordered, PairWithRubric) else None
    return proxy_prompt(ordered.pair.question, *ordered.responses, rubric, images=0)


def rubric_judge(source: Endpoint | Path, settings: EvaluateSettings) -> Judge:
    """`made_by` has the hashes of both prompts, so answers to other instructions are not mixed in."""
    judge = judge_for(source, replace(settings, max_tokens=settings.proxy_max_tokens), rubric_prompt)
    judge.made_by |= {"prompt": prompt_hash("proxy"), "prompt_bare": prompt_hash("proxy_bare")}
    return judge
