"""The release of a step benchmark: {image: [PATH], question, answer, response: {steps, process_correctness},
policy_model, data_source}, a solution per line. It has no ids: a solution is known by its line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import fault_of, numbered_lines, value_of
from proxygrm.evaluate.process.questions import Question
from proxygrm.evaluate.rows.pairs import image_files, image_names
from proxygrm.evaluate.rows.text import reasons_text
from proxygrm.evaluate.steps.answers import BadRow, is_number
from proxygrm.evaluate.steps.benchmark import LABELS
from proxygrm.process.checklist import Step

FILE = "test.jsonl"
_PREFIX = "images/"
"""Of the release's paths; its archive of images is unpacked with or without this folder."""


@dataclass(frozen=True)
class Labelled:
    """One solution; `question.solutions` has its steps alone."""

    id: str
    question: Question
    labels: tuple[int, ...]
    source: str
    policy: str

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(step.text for step in self.question.solutions[0])


def read_release(path: Path, images_root: Path | None = None) -> list[Labelled]:
    """The solutions of a file, or of the folder that has it. UserError names every row that cannot be used: nothing is
    judged on a silently smaller set."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"there is no file {file}; give the release's {FILE}, or its folder", code="file.not-a-file", path=file
        )
    root, solutions = images_root or file.parent, list[Labelled]()
    invalid = defaultdict[str, list[int]](list)
    for number, line in numbered_lines(file):
        try:
            solutions.append(_labelled(_value(line), number, root))
        except BadRow as reason:
            invalid[str(reason)].append(number)
    if invalid:
        raise UserError(
            f"{file}: {reasons_text(invalid)}; nothing was judged, fix these rows or leave them out",
            code="data.bad-steps",
            path=file,
            reasons=dict(invalid),
        )
    if not solutions:
        raise UserError(f"{file} has no solutions", code="file.empty", path=file)
    return solutions


def _value(line: bytes) -> Any:
    try:
        return value_of(line)
    except ValueError:
        raise BadRow(fault_of(line)) from None


def _labelled(row: Any, number: int, root: Path) -> Labelled:
    if not isinstance(row, dict):
        raise BadRow("not a JSON object")
    question, source, response = row.get("question"), row.get("data_source"), row.get("response")
    if not isinstance(question, str) or not question.strip():
        raise BadRow("no question")
    if not isinstance(source, str) or not source:
        raise BadRow("no data_source")
    if not isinstance(response, dict):
        raise BadRow("no response")
    steps, labels = response.get("steps"), response.get("process_correctness")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise BadRow("no steps, or one that is not text")
    if not isinstance(labels, list) or not all(is_number(label) and label in LABELS for label in labels):
        raise BadRow("process_correctness that is not a list of 1, 0 and -1")
    if len(labels) != len(steps):
        raise BadRow("another number of labels than of steps")
    try:
        names = image_names(row) or [""]  # each solution of the release has one: this row lacks it
    except ValueError:
        raise BadRow("an image that is not a path") from None
    own = Question(question, tuple(names), _files(names, root), (tuple(map(Step, steps)),))
    return Labelled(str(number), own, tuple(map(int, labels)), source, str(row.get("policy_model") or ""))


def _files(names: Sequence[str], root: Path) -> tuple[Path, ...]:
    """As named, or without the leading `images/` where the file is there."""
    as_named, short = image_files(names, root), image_files([name.removeprefix(_PREFIX) for name in names], root)
    return tuple(two if two.is_file() and not one.is_file() else one for one, two in zip(as_named, short, strict=True))
