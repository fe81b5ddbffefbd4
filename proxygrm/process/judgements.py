"""A teacher's judgements of a solution's steps, the errors it plants in a description, and its audits: what it must
write, and what is wrong with what it wrote. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proxygrm.core.bad_row import BadRow
from proxygrm.process.audit import KEY, audit_object
from proxygrm.process.checklist import normal_dependency
from proxygrm.process.json_text import arrays_in
from proxygrm.process.policy_json import repaired

VISUAL = ("visual_object", "visual_value", "visual_structure")
CATEGORIES = (*VISUAL, "logic", "calculation", "knowledge", "incompleteness")
"""What may be wrong with a step."""
ERRORS, OMISSIONS = "errors_and_hallucinations", "omissions"
PENALTIES = {"High": 0.5, "Low": 0.2}
"""Taken off the reliability for a contradiction of this severity."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A step as a teacher judges it."""

    score: Literal[1, -1]
    category: str | None
    """One of CATEGORIES; None for a right step."""
    dependency: str | None
    """What the step says that the image shows; None: it leans on nothing visual."""

    def row(self, step: str) -> dict[str, Any]:
        """As it stands in a teacher's row. step: its text."""
        return {"step": step, "score": self.score, "category": self.category, "visualdependency": self.dependency}


def read_judgements(text: str, steps: int) -> list[Judged]:
    """The last JSON list of objects in a teacher's text, which must have one for each of so many steps.

    Raises BadRow: unreadable, wrong_count, wrong_order (step numbers other than 1, 2, ...), bad_score, bad_category,
    category_of_a_right_step, no_category (of a wrong one), bad_dependency.
    """
    lists = [value for value in arrays_in(repaired(text)) if value and all(isinstance(each, Mapping) for each in value)]
    if not lists:
        raise BadRow("unreadable", "there is no JSON list of objects")
    judged = lists[-1]
    if len(judged) != steps:
        raise BadRow("wrong_count", f"{len(judged)} judgements for {steps} steps")
    return [_judged(number, each) for number, each in enumerate(judged, 1)]


def judged_steps(value: Any) -> list[tuple[str, Judged]]:
    """(text, judgement) of each step of a teacher's row. Raises BadRow as `read_judgements`, and bad_steps."""
    if not isinstance(value, list) or not value:
        raise BadRow("bad_steps", "steps is missing, it must be a list of judged steps")
    judged = []
    for number, step in enumerate(value, 1):
        if not isinstance(step, Mapping) or not isinstance(step.get("step"), str):
            raise BadRow("bad_steps", f"step {number} has no text")
        judged.append((step["step"], _judged(number, {**step, "step": number})))
    return judged


def _judged(number: int, value: Mapping[str, Any]) -> Judged:
    if not _is(value.get("step"), number):
        raise BadRow("wrong_order", f"judgement {number} is of step {value.get('step')!r:.40}")
    score, category = value.get("score"), value.get("category")
    if not (_is(score, 1) or _is(score, -1)):
        raise BadRow("bad_score", f"the score of step {number} is {score!r:.40}, it must be 1 or -1")
    if category is not None and category not in CATEGORIES:
        known = ", ".join(CATEGORIES)
        raise BadRow("bad_category", f"the category of step {number} is {category!r:.40}, it must be one of {known}")
    if score == 1 and category is not None:
        raise BadRow("category_of_a_right_step", f"step {number} is right, and its category {category}")
    if score == -1 and category is None:
        raise BadRow("no_category", f"step {number} is wrong, and has no category")
    dependency = value.get("visualdependency")
    if not isinstance(dependency, str | None):
        raise BadRow("bad_dependency", f"visualdependency of step {number} is {type(dependency).__name__}, not text")
    return Judged(1 if score == 1 else -1, category, normal_dependency(dependency))


def _is(value: Any, number: int) -> bool:
    """Not true, which Python counts as 1, nor 1.0."""
    return type(value) is int and value == number


def same_text(one: str, other: str) -> bool:
    """Whether two descriptions say the same, letter by letter, blanks aside."""
    return one.split() == other.split()


def read_audit(text: str) -> dict[str, Any]:
    """The audit in a teacher's text: its three keys alone, the reliability being what its contradictions leave of 1.

    Raises BadRow: unreadable, bad_score, bad_errors, score_not_of_errors.
    """
    audit = audit_object(repaired(text))
    if audit is None:
        raise BadRow("unreadable", f"there is no JSON object with {KEY}")
    return checked_audit(audit)


def checked_audit(value: Any) -> dict[str, Any]:
    """The same of its JSON value."""
    value = value if isinstance(value, Mapping) else {}
    errors, score = value.get(ERRORS), value.get(KEY)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise BadRow("bad_score", f"{KEY} is {score!r:.40}, it must be a number from 0 to 1")
    if not isinstance(errors, list) or not all(map(_is_error, errors)):
        raise BadRow("bad_errors", f"{ERRORS} must be a list of {{faulty_statement, ..., severity: High or Low}}")
    omissions = value.get(OMISSIONS, [])
    if not isinstance(omissions, list):
        raise BadRow("bad_errors", f"{OMISSIONS} must be a list")
    left = max(0.0, 1.0 - sum(PENALTIES[error["severity"]] for error in errors))
    if abs(left - score) > 0.005:
        raise BadRow("score_not_of_errors", f"{KEY} is {score}, but the contradictions leave {left:.2g}")
    return {ERRORS: errors, OMISSIONS: omissions, KEY: float(score)}


def _is_error(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("faulty_statement"), str)
        and value.get("severity") in PENALTIES
    )
