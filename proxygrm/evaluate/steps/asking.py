"""How a judge is asked about a step, beyond what training asked: the settings of a study, and the calls they need.

Equal calls are the same wherever they are made: the seed of a sample depends on what is asked alone, so two settings
that come to the same question get the same answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.critique.prompts.process import DESCRIBE, STEP, STEP_LENIENT, STEP_NO_VISION, step_prompt
from proxygrm.evaluate.judges.engine import Request
from proxygrm.evaluate.process.questions import Question
from proxygrm.evaluate.process.work import Work
from proxygrm.process.checklist import Step
from proxygrm.process.corrupt import generator
from proxygrm.process.policy_json import Steps
from proxygrm.process.stages import Description, ScoreSettings
from proxygrm.process.structured import (
    DESCRIBED_BY,
    NO_IMAGE,
    PARAGRAPH,
    DescribedBy,
    as_json,
    asks_to_describe,
    corrupted,
    described,
)

Describing = Literal["none", "paragraph", "structured", "structured_short"]
Corruption = Literal[
    "none", "drop", "flip", "empty", "drop_facts", "shuffle_facts", "keep_caption_only", "noise_caption"
]
Instruction = Literal["strict", "lenient", "no_vision"]
Images = Literal["all", "first", "none"]
Unreadable = Literal["null", "1", "-1", "random"]
INSTRUCTIONS: dict[str, str] = {"strict": STEP, "lenient": STEP_LENIENT, "no_vision": STEP_NO_VISION}
"""The prompt of each."""
ALL_STEPS = -1


@dataclass(frozen=True)
class Asking:
    """How the judge is asked; the defaults are what training asks."""

    description: Describing = PARAGRAPH
    """What the extractor writes of the image: nothing, the paragraph it is trained for, or {caption, key_facts,
    uncertain} by a long or a short instruction."""
    description_temperature: float = 0.0
    """Of the extractor; 0: greedy."""
    description_top_p: float = 1.0
    """It writes the most probable tokens, of this probability together."""
    corruption: Corruption = "none"
    """What happens to the description before the judge reads it (`proxygrm process corrupt --help`). Of a paragraph the
    first sentence is the caption, and each other one a fact."""
    corruption_ratio: float = 1.0
    """Of `drop` and `flip`: the probability for each text."""
    corruption_seed: int = 0
    """The draws of an image and question depend on it alone, in every process."""
    instruction: Instruction = "strict"
    """`strict`, as in training; `lenient`: a step in doubt is right; `no_vision`: the text alone counts, and no
    description is shown."""
    judge_sees_description: bool = True
    """False: nobody asks for it either."""
    judge_sees_image: bool = True
    """False: the extractor alone sees it."""
    images: Images = "all"
    """Those of a question that anybody sees. With none there is nothing to describe."""
    last_steps: int = ALL_STEPS
    """The judge sees exactly so many earlier steps; -1: all."""
    renumber: bool = False
    """Number the steps that are shown from 1, also where earlier ones are not; otherwise each keeps its number."""
    unreadable: Unreadable = "null"
    """The verdict that cannot be read: null counts against both classes; 1, -1, or one of them by chance."""

    def __post_init__(self) -> None:
        choices = {
            "description": get_args(Describing), "corruption": get_args(Corruption), "images": get_args(Images),
            "instruction": get_args(Instruction), "unreadable": get_args(Unreadable),
        }  # fmt: skip
        check_bounds(
            "asking",
            self,
            from_zero=("description_temperature",),
            positive=("description_top_p",),
            shares=("description_top_p", "corruption_ratio"),
            choices=choices,
        )
        if self.last_steps < ALL_STEPS:
            raise UserError(
                f"asking: last_steps is {self.last_steps}; give 0 or more, or {ALL_STEPS} for all earlier steps",
                code="settings.out-of-range",
                name="last_steps",
                value=self.last_steps,
            )
        if self.corruption != "none" and not self.shows_description:
            raise UserError(
                f"asking: corruption is {self.corruption!r}, but the judge is shown no description; leave it out",
                code="settings.contradiction",
                name="corruption",
                value=self.corruption,
            )

    @property
    def shows_description(self) -> bool:
        return self.description != "none" and self.judge_sees_description and self.instruction != "no_vision"

    @property
    def describes(self) -> bool:
        """Whether the extractor is asked: what nobody is shown is not asked for."""
        return self.shows_description and self.images != "none"

    @property
    def described_by(self) -> DescribedBy:
        """`description` where there is one."""
        return cast(DescribedBy, self.description)

    def first_shown(self, step: int) -> int:
        """The first step that the judge of step `step` sees, both from 0."""
        return 0 if self.last_steps == ALL_STEPS else max(0, step - self.last_steps)

    def verdict(self, key: str) -> int | None:
        """What an unreadable verdict counts as. key: of the call; its chance depends on nothing else."""
        if self.unreadable == "random":
            return generator(0, key).choice((1, -1))
        return None if self.unreadable == "null" else int(self.unreadable)


class AskedWork(Work):
    """The calls for steps, as `asking` has them."""

    def __init__(
        self, questions: Sequence[Question], settings: ScoreSettings, stages: Collection[str], asking: Asking
    ) -> None:
        super().__init__(questions, settings, stages)
        self.asking = asking
        self._shown: dict[str, Description] = {}
        """By the key of the description's call."""
        self.unchanged = 0
        """Descriptions that the corruption left as they were."""

    def prompt(self, stage: str) -> str:
        if stage == DESCRIBE:
            return DESCRIBED_BY[self.asking.description]
        return INSTRUCTIONS[self.asking.instruction] if stage == STEP else stage

    def description(self, question: Question) -> Description | None:
        if not self.asking.shows_description:
            return None
        if not self.describes(question):
            return Description("", "" if self.asking.description == PARAGRAPH else as_json(NO_IMAGE))
        request = self.describing(question)
        answer = self.answers.get(request.key)
        if answer is None:
            return None
        if request.key not in self._shown:
            self._shown[request.key] = self._corrupted(described(answer, self.asking.described_by), question)
        return self._shown[request.key]

    def describes(self, question: Question) -> bool:
        """Without an image there is nothing to describe."""
        return self.asking.describes and bool(question.images)

    def _begin(self, question: Question) -> None:
        if self.describes(question):
            super()._begin(question)
        else:
            self._follow(question)

    def describing(self, question: Question) -> Request:
        return self._request(DESCRIBE, asks_to_describe(question.text, self.asking.described_by), question)

    def judging(self, question: Question, steps: Steps) -> list[Request]:
        description = self.description(question)
        seen = question if self.asking.judge_sees_image else question.without_images
        texts = asked_texts(question.text, description.text if description else "", steps, self.asking)
        return [self._request(STEP, text, seen) for text in texts]

    def _corrupted(self, description: Description, question: Question) -> Description:
        asking = self.asking
        if asking.corruption == "none" or not description.text:
            return description
        rng = generator(asking.corruption_seed, question.key)
        text = corrupted(description.text, asking.described_by, asking.corruption, rng, asking.corruption_ratio)
        self.unchanged += text.split() == description.text.split()
        return replace(description, text=text)


def asked_texts(question: str, description: str, steps: Sequence[Step], asking: Asking) -> list[str]:
    """The judge's prompt about each step."""
    texts = []
    for step in range(len(steps)):
        first = asking.first_shown(step)
        seen = [each.text for each in steps[first : step + 1]]
        number = 1 if asking.renumber else first + 1
        texts.append(step_prompt(question, description, seen, number, INSTRUCTIONS[asking.instruction]))
    return texts


def seen_by_all(question: Question, images: Images) -> Question:
    """The question with the images that anybody may see."""
    if images == "all":
        return question
    kept = 1 if images == "first" else 0
    return replace(question, names=question.names[:kept], images=question.images[:kept])


def prompts_of(asking: Asking) -> tuple[str, ...]:
    """The instructions that are used."""
    describing = (DESCRIBED_BY[asking.description],) if asking.describes else ()
    return (*describing, INSTRUCTIONS[asking.instruction])
