"""The visual checklist of a solution: what its steps say that the image shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxygrm.core.bad_row import BadRow

EMPTY = "(empty)"
"""What the auditor is shown of a solution that leans on nothing visual."""


@dataclass(frozen=True, slots=True)
class Step:
    text: str
    dependency: str | None = None
    """The visual fact that the step leans on; None: it leans on none."""


@dataclass(frozen=True, slots=True)
class Checklist:
    items: tuple[str, ...]
    """The distinct dependencies, in the order in which they first appear."""
    visual_indices: tuple[int, ...]
    """The steps that have a dependency, from 0."""

    @property
    def text(self) -> str:
        """One line for each item, as the auditor reads them."""
        return "\n".join(f"- {item}" for item in self.items) or EMPTY


def normal_dependency(value: Any) -> str | None:
    """Stripped text; None for null, for blanks and for the word "null". Other types count by their text, as released:
    false, 0 and "none" are dependencies."""
    if value is None:
        return None
    text = str(value).strip()
    return None if text.lower() in ("", "null") else text


def steps_in(value: Any) -> list[Step]:
    """Steps of a list [{steptext, visualdependency}]. A step without `visualdependency` leans on nothing.

    Raises BadRow: no_steps (not a list), bad_step (not an object, or its text is not text).
    """
    if not isinstance(value, list):
        raise BadRow("no_steps", "steps is missing, it must be a list of {steptext, visualdependency}")
    return [_step(number, item) for number, item in enumerate(value, 1)]


def _step(number: int, item: Any) -> Step:
    if not isinstance(item, Mapping):
        raise BadRow("bad_step", f"step {number} is {type(item).__name__}, it must be {{steptext, visualdependency}}")
    text = item.get("steptext")
    if not isinstance(text, str):
        raise BadRow("bad_step", f"steptext of step {number} is {type(text).__name__}, it must be text")
    try:
        return Step(text, normal_dependency(item.get("visualdependency")))
    except (RecursionError, ValueError):  # of str(): nested too deeply, or an integer of thousands of digits
        raise BadRow("bad_step", f"visualdependency of step {number} cannot be shown as text") from None


def checklist_of(steps: Sequence[Step]) -> Checklist:
    visual = [(index, step.dependency) for index, step in enumerate(steps) if step.dependency is not None]
    return Checklist(tuple(dict.fromkeys(item for _, item in visual)), tuple(index for index, _ in visual))
