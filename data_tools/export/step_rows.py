"""Solutions, and what a teacher wrote about them -> training rows of process reward.

The instructions are those of inference (`proxygrm.process.stages`), and so is the form of the answers:

vision_sft  describe the image   {"image_description": ...}
vision_dpo  the same             the description, and as the rejected answer the one with errors planted
step_judge  judge this step      1 or -1
audit       audit these claims   {"errors_and_hallucinations": ..., "omissions": ..., "p_score": ...}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from proxygrm.core.bounds import check_bounds
from proxygrm.critique.prompts import IMAGE_TAG, inert
from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, STEP, describe_prompt
from proxygrm.process.checklist import Step, checklist_of
from proxygrm.process.judgements import Judged
from proxygrm.process.solutions import Solution
from proxygrm.process.stages import DESCRIPTION, ScoreSettings, audit_text, step_texts
from proxygrm.process.teacher_rows import Audited, key_of

Labels = Literal["teacher", "measured"]
"""Whose verdicts the step judge learns: the teacher's, or the labels of the release."""
Auditor = Literal["judge", "separate", "none"]
"""Who learns to audit: the step judge too, another model, or nobody."""
PROMPTS = (DESCRIBE, AUDIT, STEP)
"""The instructions of the rows."""


@dataclass(frozen=True)
class StepSetOptions:
    labels: Labels = "teacher"
    """Verdicts of the `teacher`, or `measured` ones: the labels of the release, steps without one being left out."""
    auditor: Auditor = "judge"
    """Who learns to audit: the step `judge`, whose set then has the audits too, a `separate` model, or `none`."""
    history: int = 32
    """Earlier steps that the judge sees at least, and fewer than twice as many; 0: all. As scoring has it."""
    balance: float = 0.0
    """Steps with the more frequent verdict, at most so many for each of the other; 0: all."""
    max_rows: int = 0
    """Of each set, at most; 0: all. The validation sets have their share of it."""
    seed: int = 0
    """Which rows are left out by `balance` and `max_rows`, and which images are for validation."""

    def __post_init__(self) -> None:
        check_bounds(
            "step sets",
            self,
            from_zero=("history", "balance", "max_rows"),
            choices={"labels": get_args(Labels), "auditor": get_args(Auditor)},
        )


def description_row(solution: Solution, description: str, images: Sequence[str]) -> dict[str, Any]:
    return _row(key_of(solution), describe_prompt(solution.question), _described(description), images)


def contradiction_row(solution: Solution, description: str, contradicted: str, images: Sequence[str]) -> dict[str, Any]:
    return description_row(solution, description, images) | {"rejected_response": _described(contradicted)}


def step_rows(
    solution: Solution, description: str, verdicts: Sequence[int | None], history: int, images: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One for each step that has a verdict."""
    steps = [Step(text) for text in solution.steps]
    texts = step_texts(solution.question, description, steps, ScoreSettings(history=history))
    for number, (text, verdict) in enumerate(zip(texts, verdicts, strict=True), 1):
        if verdict is not None:
            yield _row(f"{solution.id}/{number}", text, str(verdict), images)


def audit_row(solution: Solution, judged: Sequence[Judged], audited: Audited, images: Sequence[str]) -> dict[str, Any]:
    """Raises ValueError for an audit of other claims than those of the judgements."""
    steps = [Step(text, each.dependency) for text, each in zip(solution.steps, judged, strict=True)]
    text = audit_text(audited.description, steps)
    if text is None or checklist_of(steps).text != audited.checklist:
        raise ValueError("its claims are not those of the judgements")
    return _row(f"{solution.id}/audit", text, _json(audited.audit), images)


def line_of(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _row(row_id: str, prompt: str, answer: str, images: Sequence[str]) -> dict[str, Any]:
    """images: absolute paths. ms-swift would take relative ones from the folder in which it is started."""
    messages = [
        {"role": "user", "content": IMAGE_TAG * len(images) + prompt},
        {"role": "assistant", "content": answer},
    ]
    return {"id": row_id, "messages": messages, "images": list(images)}


def _described(description: str) -> str:
    return _json({DESCRIPTION: description})


def _json(value: dict[str, Any]) -> str:
    """For each `<image>` that a teacher quotes, ms-swift would expect one more image."""
    return inert(json.dumps(value, ensure_ascii=False), contract=False)
