"""The three stages of a step score: how they are asked, and how what comes back is read. Pure.

An answer is a mapping {text, truncated, problem} with a `cause` where the service gave one: `problem` is set when the
prompt never reached the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxygrm.core.bounds import check_bounds
from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, STEP, audit_prompt, step_prompt
from proxygrm.critique.thought import after_thought
from proxygrm.process.checklist import Step, checklist_of
from proxygrm.process.json_text import objects_in, strip_code_fences
from proxygrm.process.policy_json import repaired

DESCRIPTION = "image_description"


@dataclass(frozen=True)
class ScoreSettings:
    """How the stages are asked."""

    description_tokens: int = 2048
    """Longest description, in tokens."""
    audit_tokens: int = 2048
    """Longest audit, in tokens."""
    verdict_tokens: int = 16
    """Longest verdict, in tokens."""
    history: int = 32
    """The judge sees at least so many earlier steps, and fewer than twice as many; 0: all. The first one shown moves in
    strides of so many, since the steps in between share their prefix."""
    soft: bool = False
    """Also ask how probable the two verdicts are."""

    def __post_init__(self) -> None:
        lengths = ("description_tokens", "audit_tokens", "verdict_tokens")
        check_bounds("process score", self, from_one=lengths, from_zero=("history",))

    def first_shown(self, step: int) -> int:
        """The first step that the judge of step `step` sees, both from 0."""
        return 0 if not self.history else max(0, step // self.history - 1) * self.history

    def tokens(self, stage: str) -> int:
        return {DESCRIBE: self.description_tokens, AUDIT: self.audit_tokens, STEP: self.verdict_tokens}[stage]


@dataclass(frozen=True)
class Description:
    raw: str
    """The extractor's text."""
    text: str
    """What it says of the image; "" where it cannot be read."""
    problem: str = ""
    """Why it cannot be read."""

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Description:
        """A text that is not the start of the JSON is taken as it is: it describes the image all the same."""
        raw = str(answer["text"])
        said = without_thought(raw)
        texts = [value.get(DESCRIPTION) for value in objects_in(repaired(said))]
        found = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
        if found:
            return cls(raw, found[-1])
        plain = strip_code_fences(said)
        if plain and not plain.startswith("{") and DESCRIPTION not in plain:
            return cls(raw, plain)
        return cls(raw, "", why_unreadable(answer))


def without_thought(text: str) -> str:
    """What follows the `<think>` of a model that thinks first; "" where the thought has no end."""
    return after_thought(text, truncated=True)


def why_unreadable(answer: Mapping[str, Any]) -> str:
    """A word for an answer that is not what was asked for."""
    if answer.get("cause"):
        return str(answer["cause"])
    if answer["problem"]:
        return "prompt_refused"
    return "cut_off" if answer["truncated"] else "empty" if not answer["text"].strip() else "unreadable"


def audit_text(description: str, steps: Sequence[Step]) -> str | None:
    """The auditor's prompt; None where there is nothing to compare: no claim, or no readable description."""
    checklist = checklist_of(steps)
    return audit_prompt(description, checklist.text) if checklist.items and description else None


def step_texts(question: str, description: str, steps: Sequence[Step], settings: ScoreSettings) -> list[str]:
    """The judge's prompt about each step."""
    texts = []
    for step in range(len(steps)):
        first = settings.first_shown(step)
        texts.append(step_prompt(question, description, [shown.text for shown in steps[first : step + 1]], first + 1))
    return texts
