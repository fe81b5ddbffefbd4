"""Perception intervention: how far does a policy's answer depend on what it is shown of the image?

Each question is answered under four conditions: with the image; with the image and a description; with a corrupted
description in place of the image; with the question alone. A condition that could not be had is missing, with its
cause, and never counted as another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.critique.prompts.process import CONTRADICT, DESCRIBE, SOLVE, contradict_prompt, solve_prompt
from proxygrm.evaluate.judges.engine import Request
from proxygrm.evaluate.process.questions import Question
from proxygrm.evaluate.process.work import Work
from proxygrm.process.corrupt import generator
from proxygrm.process.stages import Description, ScoreSettings, why_unreadable
from proxygrm.process.structured import DESCRIBED_BY, PARAGRAPH, DescribedBy, asks_to_describe, corrupted, described

IMAGE, DESCRIBED, CORRUPTED, QUESTION = CONDITIONS = ("image", "described", "corrupted", "question")
Noise = Literal[
    "contradict", "drop", "flip", "empty", "drop_facts", "shuffle_facts", "keep_caption_only", "noise_caption"
]


@dataclass(frozen=True)
class Intervention:
    """What the policy is shown."""

    conditions: tuple[str, ...] = CONDITIONS
    """Some of image, described, corrupted, question."""
    description: DescribedBy = "structured"
    """What the extractor writes: {caption, key_facts, uncertain} by a long or a short instruction, or a paragraph."""
    corruption: Noise = "flip"
    """What happens to the description (`proxygrm process corrupt --help`); `contradict`: the extractor plants errors in
    its paragraph."""
    corruption_ratio: float = 1.0
    """Of `drop` and `flip`: the probability for each text."""
    corruption_seed: int = 0
    """The draws of an image and question depend on it alone, in every process."""
    solve_tokens: int = 4096
    """Longest answer of the policy, in tokens."""
    description_tokens: int = 2048
    """Longest description, in tokens."""

    def __post_init__(self) -> None:
        check_bounds(
            "perception",
            self,
            shares=("corruption_ratio",),
            from_one=("solve_tokens", "description_tokens"),
            choices={"description": get_args(DescribedBy), "corruption": get_args(Noise)},
        )
        unknown = [name for name in self.conditions if name not in CONDITIONS]
        if unknown or not self.conditions or len(set(self.conditions)) < len(self.conditions):
            raise UserError(
                f"perception: conditions is {','.join(self.conditions) or 'empty'}; give some of "
                f"{', '.join(CONDITIONS)}, each once",
                code="settings.unknown-value",
                name="conditions",
                value=list(self.conditions),
                known=list(CONDITIONS),
            )
        if CORRUPTED in self.conditions and self.corruption == "contradict" and self.description != PARAGRAPH:
            raise UserError(
                f"perception: errors are planted in a paragraph, but description is {self.description!r}; give "
                "description=paragraph with corruption=contradict",
                code="settings.contradiction",
                name="corruption",
                value=self.corruption,
            )

    @property
    def asks(self) -> tuple[str, ...]:
        """The instructions of the extractor, then the policy's."""
        describes = bool({DESCRIBED, CORRUPTED} & {*self.conditions})
        plants = CORRUPTED in self.conditions and self.corruption == "contradict"
        return (*([DESCRIBE] if describes else []), *([CONTRADICT] if plants else []), SOLVE)

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(DESCRIBED_BY[self.description] if ask == DESCRIBE else ask for ask in self.asks)


@dataclass(frozen=True)
class _Lengths(ScoreSettings):
    solve_tokens: int = 4096

    def tokens(self, stage: str) -> int:
        return self.solve_tokens if stage == SOLVE else self.description_tokens


@dataclass(frozen=True)
class Shown:
    """What stands for the image in a condition."""

    text: str
    """Of the description; "" for none."""
    problem: str = ""
    """Why the condition cannot be had."""


class InterventionWork(Work):
    """The calls of all questions, each with at least one image."""

    def __init__(self, questions: Sequence[Question], intervention: Intervention) -> None:
        lengths = _Lengths(description_tokens=intervention.description_tokens, solve_tokens=intervention.solve_tokens)
        super().__init__(questions, lengths, intervention.asks)
        self.intervention = intervention

    @property
    def total(self) -> int:  # type: ignore[override]
        asked = len(self.intervention.conditions) + len(self.stages) - 1
        return len(self.questions) * asked

    def prompt(self, stage: str) -> str:
        return DESCRIBED_BY[self.intervention.description] if stage == DESCRIBE else stage

    def describing(self, question: Question) -> Request:
        return self._request(DESCRIBE, asks_to_describe(question.text, self.intervention.description), question)

    def description(self, question: Question) -> Description | None:
        answer = self.answers.get(self.describing(question).key)
        return described(answer, self.intervention.description) if answer else None

    def contradicting(self, question: Question) -> Request | None:
        """None where nothing is planted, or there is nothing to plant it in."""
        description = self.description(question) if CONTRADICT in self.stages else None
        if not description or not description.text:
            return None
        return self._request(CONTRADICT, contradict_prompt(question.text, description.text), question)

    def shown(self, question: Question, condition: str) -> Shown | None:
        """None before the extractor has answered."""
        if condition in (IMAGE, QUESTION):
            return Shown("")
        description = self.description(question)
        if description is None:
            return None
        if not description.text:
            return Shown("", description.problem)
        return Shown(description.text) if condition == DESCRIBED else self._corrupted(question, description)

    def _corrupted(self, question: Question, description: Description) -> Shown | None:
        settings = self.intervention
        if request := self.contradicting(question):
            answer = self.answers.get(request.key)
            if answer is None:
                return None
            planted = Description.of(answer)
            text, problem = planted.text, planted.problem
        else:
            rng, problem = generator(settings.corruption_seed, question.key), ""
            mode, ratio = settings.corruption, settings.corruption_ratio
            text = corrupted(description.text, settings.description, mode, rng, ratio)
        if not text:
            return Shown("", problem or "nothing_left")
        return Shown("", "unchanged") if text.split() == description.text.split() else Shown(text)

    def solving(self, question: Question, condition: str) -> Request | None:
        """None where the condition cannot be had (yet)."""
        shown = self.shown(question, condition)
        if shown is None or shown.problem:
            return None
        seen = question if condition in (IMAGE, DESCRIBED) else question.without_images
        return self._request(SOLVE, solve_prompt(question.text, shown.text), seen)

    def missing(self, question: Question, condition: str) -> str:
        """Why a condition has no answer; "" where it has one."""
        shown, request = self.shown(question, condition), self.solving(question, condition)
        if request is None:
            return shown.problem if shown else "not_described"
        answer = self.answers[request.key]
        return why_unreadable(answer) if answer["problem"] else ""

    def _follow(self, question: Question) -> None:
        planting = self.contradicting(question)
        if planting and planting.key not in self.answers and CONTRADICT in self._asking:
            self._waiting[planting.key].append(question)
            self._queue.append(planting)
        if SOLVE in self._asking:
            requests = (self.solving(question, condition) for condition in self.intervention.conditions)
            self._queue += [request for request in requests if request]

    def _answered(self, question: Question, stages: Any) -> bool:
        if DESCRIBE in self.stages and self.description(question) is None:
            return False
        planting = self.contradicting(question)
        solving = [self.solving(question, condition) for condition in self.intervention.conditions]
        calls = [*([planting] if planting else []), *(solving if SOLVE in stages else [])]
        return all(call.key in self.answers for call in calls if call)


def missing_by_cause(work: InterventionWork) -> dict[str, Counter[str]]:
    """Condition -> how many questions lack it, by cause."""
    causes = {
        condition: Counter(cause for question in work.questions if (cause := work.missing(question, condition)))
        for condition in work.intervention.conditions
    }
    return {condition: counts for condition, counts in causes.items() if counts}
