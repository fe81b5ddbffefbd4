"""VisualPRM400K, -v1.1 and -v1.1-Raw (OpenGVLab): a row -> a solution with a label for each of its steps.

Conversation (400K, v1.1): {image, conversations}, of the turns system, human, gpt, human, gpt, ... The first human turn
is "### Question:", the question, "### Solution Process:" and the first step, each later one is a step; gpt says "+" or
"-". Outcome (in the same releases, perhaps in `*_orm` files): one human turn with the whole response; gpt says whether
it is right. Raw (v1.1-Raw): {image, question, answer, response, steps_with_score: [{step, score, num_mc_correct,
num_mc_total}]}. `image` is a path or a list of paths.

A score is the share of 16 continuations that reach the right answer. Once a step has none that does, the release
measures no further: it writes 0.0 with `num_mc_total` 0, or "-". Such steps are unknown, not wrong. Conversations do
not show which "-" was measured (`Reading.after_error`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from data_tools.sources.base import Excluded, unknown_layout, without_image_tags
from data_tools.sources.turns import Turn, turns_of
from proxygrm.core.bounds import check_bounds
from proxygrm.core.images.fields import Named, images_in, marked
from proxygrm.process.solutions import Label, is_finite

KEEP, UNKNOWN = AFTER_ERROR = ("keep", "unknown")
VERDICTS: dict[str, Label] = {"+": 1, "-": -1}
_QUESTION = re.compile(r"\s*#+[ \t]*Question:?[ \t]*\r?\n")
_PROCESS = re.compile(r"\n[ \t]*#+[ \t]*Solution Process:?[ \t]*\r?\n")
_BLANK_LINES = re.compile(r"\n[ \t\r]*\n")
_ROUNDED = 1e-3
"""A score may differ so much from num_mc_correct / num_mc_total."""


@dataclass(frozen=True)
class Reading:
    """How the labels of steps are read."""

    threshold: float = 0.0
    """Raw rows: a step is right when its score is above it."""
    after_error: str = KEEP
    """Rows that do not say what was measured: a step after the first wrong one is what the release says (`keep`), or
    `unknown`."""

    def __post_init__(self) -> None:
        check_bounds("solutions", self, shares=("threshold",), choices={"after_error": AFTER_ERROR})


class RawSolution(NamedTuple):
    """A solution before its images are stored."""

    question: Any
    images: tuple[Named, ...]
    steps: list[str]
    labels: list[Label | None]
    scores: list[float | None] | None
    right: bool | None
    answer: str | None
    outcome: bool
    """Its label is of the whole response: none of its steps has one."""
    notes: tuple[str, ...] = ()


class _Step(NamedTuple):
    text: str
    label: Label | None
    score: float | None = None


def read(row: dict[str, Any], reading: Reading, of_outcomes: bool = False) -> RawSolution | Excluded:
    """of_outcomes: the file is of rows whose one label is of the whole response. Raises NoImage."""
    if "conversations" in row:
        return _conversation(row, reading, of_outcomes)
    if "steps_with_score" in row:
        return _raw(row, reading)
    return unknown_layout(row, "conversations and no steps_with_score")


# --- conversations


def _conversation(row: dict[str, Any], reading: Reading, of_outcomes: bool) -> RawSolution | Excluded:
    turns = turns_of(row["conversations"])
    if turns is None:
        found = "an empty list" if row["conversations"] == [] else type(row["conversations"]).__name__
        return Excluded("bad_turns", f"conversations is {found}, not a list of turns")
    turns = turns[1:] if turns[:1] and turns[0].role == "system" else turns
    if fault := _turn_fault(turns):
        return fault
    texts, verdicts = [turn.text for turn in turns[::2]], [turn.text.strip() for turn in turns[1::2]]
    head = _QUESTION.match(texts[0])
    process = _PROCESS.search(texts[0], head.end() - 1) if head else None
    if head is None or process is None:
        return Excluded("no_question", f"the first turn lacks its headings: {' '.join(texts[0].split())[:80]}")
    question, first = texts[0][head.end() : process.start()], texts[0][process.end() :]
    right = VERDICTS[verdicts[-1]] == 1
    blocks = split_steps(first) if len(texts) == 1 else []
    if len(blocks) > 1 or (blocks and of_outcomes):
        return _solution(row, question, [_Step(text, None) for text in blocks], right, outcome=True)
    steps = [_Step(text, VERDICTS[verdict]) for text, verdict in zip([first, *texts[1:]], verdicts, strict=True)]
    notes = {"threshold_not_used"} if reading.threshold else set()
    return _solution(row, question, _after_error(steps, reading), right, notes=notes)


def _turn_fault(turns: list[Turn]) -> Excluded | None:
    roles = [turn.role for turn in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        return Excluded("bad_turns", f"human and gpt do not take turns: {', '.join(roles)}"[:200])
    if others := [turn.text for turn in turns[1::2] if not _is_verdict(turn.text)]:
        return Excluded("bad_verdict", f"{others[0]!r}"[:60])
    if others := [turn.text for turn in turns[::2] if not isinstance(turn.text, str)]:
        return Excluded("not_text", f"a step is {type(others[0]).__name__}")
    return None


def _is_verdict(text: Any) -> bool:
    return isinstance(text, str) and text.strip() in VERDICTS


def split_steps(response: str) -> list[str]:
    """The steps of a whole response, as the release splits it: at blank lines."""
    return [block.strip() for block in _BLANK_LINES.split(response) if block.strip()]


# --- raw rows


def _raw(row: dict[str, Any], reading: Reading) -> RawSolution | Excluded:
    items = row["steps_with_score"]
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return Excluded("bad_steps", "steps_with_score is not a list of objects")
    if not items:
        return Excluded("no_steps", "steps_with_score is empty", bad=False)
    steps, notes, counted = list[_Step](), set[str](), True
    for item in items:
        if not isinstance(item.get("step"), str):
            return Excluded("not_text", f"a step is {type(item.get('step')).__name__}")
        score, correct, total = (item.get(name) for name in ("score", "num_mc_correct", "num_mc_total"))
        if score is not None and not _is_share(score):
            return Excluded("bad_score", f"score is {score!r}"[:60])
        if total is not None and not _is_count(total):
            return Excluded("bad_score", f"num_mc_total is {total!r}"[:60])
        counted = counted and total is not None
        if score is None:
            notes.add("step_without_score")
        elif total and _is_count(correct) and abs(score - correct / total) > _ROUNDED:
            notes.add("score_is_not_its_count")
        measured = None if score is None or total == 0 else float(score)
        steps.append(_Step(item["step"], None if measured is None else _above(measured, reading.threshold), measured))
    labelled = steps if counted else _after_error(steps, reading)
    last = items[-1].get("score")
    right = None if last is None else last > reading.threshold
    if steps[-1].label is None and right is False and not any(step.score == 0 for step in steps):
        right = None  # not even the step after which nothing is measured
    return _solution(row, row.get("question"), labelled, right, notes=notes, scored=True)


def _above(score: float, threshold: float) -> Label:
    return 1 if score > threshold else -1


def _is_share(value: Any) -> bool:
    return is_finite(value) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return is_finite(value) and value >= 0 and value == int(value)


# --- both


def _after_error(steps: list[_Step], reading: Reading) -> list[_Step]:
    wrong = next((index for index, step in enumerate(steps) if step.label == -1), len(steps))
    if reading.after_error == KEEP:
        return steps
    return [step if index <= wrong else _Step(step.text, None) for index, step in enumerate(steps)]


def _solution(
    row: dict[str, Any],
    question: Any,
    steps: list[_Step],
    right: bool | None,
    *,
    outcome: bool = False,
    notes: set[str] | None = None,
    scored: bool = False,
) -> RawSolution | Excluded:
    notes = notes or set()
    images = marked(question, images_in(row.get("image")))
    question, note = without_image_tags(question, len(images))
    kept = [_Step(step.text.strip(), *step[1:]) for step in steps if step.text.strip()]
    if not kept:
        return Excluded("empty_steps", "no step has a text")
    if len(kept) < len(steps):
        notes.add("blank_step_left_out")
    return RawSolution(
        question.strip() if isinstance(question, str) else question,
        images,
        [step.text for step in kept],
        [step.label for step in kept],
        [step.score for step in kept] if scored else None,
        right,
        _answer(row.get("answer")),
        outcome,
        tuple(sorted({*notes, *([note] if note else [])})),
    )


def _answer(value: Any) -> str | None:
    """Text, or a number or a list of answers as JSON; None where there is none."""
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, ensure_ascii=False)
