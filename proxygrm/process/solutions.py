"""A solutions folder: labelled solutions of questions about images, written by `data_tools.solutions`.

solutions.jsonl   a row per solution: {id, subset, question, image, steps, labels, scores, right, answer}
pairs.jsonl       a right and a wrong solution of one question about the same images: {question, image, right, wrong}
images/           the images, each stored once by its content; `image` lists their paths relative to the folder
report.json       what was read, kept and left out, by cause; written last
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import json_rows
from proxygrm.core.unicode_text import check_unicode

SOLUTIONS, PAIRS, IMAGES, REPORT = "solutions.jsonl", "pairs.jsonl", "images", "report.json"

Label = Literal[1, -1]


@dataclass(frozen=True, slots=True)
class Solution:
    id: str
    """Unique in the folder."""
    subset: str
    """The part of the release that it comes from."""
    question: str
    images: tuple[str, ...]
    """Paths relative to the folder; the key `image` of the row."""
    steps: tuple[str, ...]
    """At least one."""
    labels: tuple[Label | None, ...]
    """1 right, -1 wrong, None unknown; one per step."""
    scores: tuple[float | None, ...] | None
    """The measured values behind the labels, one per step; None where the release has labels alone."""
    right: bool | None
    """Whether the whole solution is; None where that is unknown."""
    answer: str | None
    """The right final answer; None where the release does not give it."""

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """The same for all solutions of one question about the same images."""
        return " ".join(self.question.split()), self.images

    def image_paths(self, folder: Path) -> list[Path]:
        return [folder / image for image in self.images]

    def row(self) -> dict[str, Any]:
        """Its line of solutions.jsonl."""
        return {
            "id": self.id, "subset": self.subset, "question": self.question, "image": list(self.images),
            "steps": list(self.steps), "labels": list(self.labels),
            "scores": None if self.scores is None else list(self.scores), "right": self.right, "answer": self.answer,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class SolutionPair:
    """Two solutions of one question about the same images."""

    question: str
    images: tuple[str, ...]
    """Paths relative to the folder; the key `image` of the row."""
    right: str
    """Id of the right solution."""
    wrong: str
    """Id of the wrong solution."""

    def row(self) -> dict[str, Any]:
        """Its line of pairs.jsonl."""
        return {"question": self.question, "image": list(self.images), "right": self.right, "wrong": self.wrong}


def read_solutions(folder: Path) -> Iterator[Solution]:
    """The solutions in order. UserError: the path is not a solutions folder, or a row of it is not a solution."""
    check_solutions(folder)
    path, ids = Path(folder) / SOLUTIONS, set[str]()
    for number, value in json_rows(path):
        try:
            solution = solution_of(value)
            if solution.id in ids:
                raise BadRow("repeated_id", f"id {solution.id!r} is that of an earlier row")
        except BadRow as error:
            raise _bad_row(path, number, error) from None
        ids.add(solution.id)
        yield solution


def read_solution_pairs(folder: Path) -> Iterator[SolutionPair]:
    """The pairs in order. UserError as `read_solutions`."""
    check_solutions(folder)
    path = Path(folder) / PAIRS
    for number, value in json_rows(path):
        try:
            row = _object(value)
            right, wrong = _text(row, "right"), _text(row, "wrong")
            yield SolutionPair(_text(row, "question"), _images(row), right, wrong)
        except BadRow as error:
            raise _bad_row(path, number, error) from None


def check_solutions(folder: Path) -> None:
    """UserError if the path is not a solutions folder; its rows are not read."""
    folder = Path(folder)
    missing = [name for name in (SOLUTIONS, PAIRS) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} has no {missing[0]}; make a solutions folder with `proxygrm data solutions RELEASE --out DIR`",
            code="data.not-a-solutions-folder", path=folder, missing=missing,
        )  # fmt: skip


def solution_of(value: Any) -> Solution:
    """A row of solutions.jsonl. Raises BadRow."""
    row = _object(value)
    for name in ("id", "subset", "question", "image", "steps", "answer"):
        check_unicode(row.get(name), name)
    steps, labels, scores = row.get("steps"), row.get("labels"), row.get("scores")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise BadRow("bad_steps", "steps must be a list of texts, at least one")
    if not isinstance(labels, list) or not all(label is None or _is_label(label) for label in labels):
        raise BadRow("bad_labels", "labels must be a list of 1, -1 and null")
    if scores is not None and not (
        isinstance(scores, list) and all(score is None or is_finite(score) for score in scores)
    ):
        raise BadRow("bad_scores", "scores must be null, or a list of numbers and null")
    for name, values in (("labels", labels), ("scores", scores)):
        if values is not None and len(values) != len(steps):
            raise BadRow(f"bad_{name}", f"{len(values)} {name} for {len(steps)} steps")
    right, answer = row.get("right"), row.get("answer")
    if not isinstance(right, bool | None):
        raise BadRow("bad_right", f"right is {right!r}, it must be true, false or null")
    if not isinstance(answer, str | None):
        raise BadRow("bad_answer", f"answer is {type(answer).__name__}, it must be text or null")
    return Solution(
        _text(row, "id"), _text(row, "subset"), _text(row, "question"), _images(row), tuple(steps), tuple(labels),
        None if scores is None else tuple(scores), right, answer,
    )  # fmt: skip


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRow("not_an_object", f"the row is {type(value).__name__}, it must be an object")
    return value


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise BadRow(f"bad_{name}", f"{name} is {value!r:.40}, it must be text")
    return value


def _images(row: dict[str, Any]) -> tuple[str, ...]:
    value = row.get("image")
    if not isinstance(value, list) or not all(isinstance(image, str) and image for image in value):
        raise BadRow("bad_image", "image must be a list of paths")
    if outside := [image for image in value if image.startswith("/") or ".." in image.split("/") or "\0" in image]:
        raise BadRow("image_outside", f"{outside[0]!r:.100} is not a path below the folder")
    return tuple(value)


def _is_label(value: Any) -> bool:
    return value in (1, -1) and type(value) is int


def is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bad_row(path: Path, number: int, error: BadRow) -> UserError:
    return UserError(
        f"{path} row {number}: {error}; make the folder again",
        code="data.bad-solution", path=path, row=number, cause=error.cause,
    )  # fmt: skip
