"""The policy's rows: a question, its images, and the solutions `vlmresponse1`, `vlmresponse2`, ..."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import CUT_OFF, fault_of, numbered_lines, value_of
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.judges.base import text_hash
from proxygrm.evaluate.rows.pairs import check_images, image_files, image_names
from proxygrm.evaluate.rows.text import reasons_text
from proxygrm.process.policy_json import Steps, steps_of

NO_RESPONSES = "no_responses"
MAX_CANDIDATES = 1024
"""Of a question, vlmresponse1 to vlmresponse1024."""
_RESPONSE = re.compile(r"vlmresponse([1-9][0-9]*)")


@dataclass(frozen=True)
class Question:
    """`images` are absolute paths; `names` are the same as the row has them."""

    text: str
    names: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    solutions: tuple[Steps, ...] = ()
    """Of each response; () for one without steps."""

    @cached_property
    def seen(self) -> str:
        """Identifies the images: what the row calls them, and how large they are. Two folders may have a 1.jpg."""
        sizes = [path.stat().st_size if path.is_file() else "missing" for path in self.images]
        return "\0".join(f"{name} {size}" for name, size in zip(self.names, sizes, strict=True))

    @cached_property
    def key(self) -> str:
        """Of question and images. Equal rows share it."""
        return text_hash(f"{self.text}\0{self.seen}")

    @property
    def without_images(self) -> Question:
        return replace(self, names=(), images=())


@dataclass(frozen=True)
class QuestionFile:
    """The questions of a JSONL, with what is wrong in it by line."""

    questions: list[Question]
    rows: list[int]
    """The line of each question, from 1."""
    bad: dict[str, list[int]] = field(default_factory=dict)
    """Cause -> lines that hold no question."""
    without_steps: dict[str, list[int]] = field(default_factory=dict)
    """Cause -> the line of each response without steps; NO_RESPONSES: of each row without responses."""
    repeated_ids: dict[str, list[int]] = field(default_factory=dict)
    """An id of several rows -> their lines."""

    def check(self, path: Path, max_bad: float | None = None) -> None:
        """UserError when nothing is left, or more than the share `max_bad` is bad; None: no bad row is allowed."""
        bad = sum(map(len, self.bad.values()))
        if self.bad and (not self.questions or bad > (max_bad or 0) * (bad + len(self.questions))):
            raise UserError(
                f"{path}: {reasons_text(self.bad)}; fix these rows, or "
                + ("leave them out" if max_bad is None else "allow their share with --max-bad"),
                code="process.bad-rows",
                path=path,
                reasons=self.bad,
            )
        if not self.questions:
            raise UserError(f"{path} has no rows; give a JSONL of questions", code="file.empty", path=path)

    def check_scorable(self, path: Path, max_bad: float | None = None) -> None:
        """The same, and UserError when no row has a response."""
        self.check(path, max_bad)
        if not any(question.solutions for question in self.questions):
            raise UserError(
                f"{path}: no row has a solution to score (vlmresponse1, ...); pass what `process sample` writes",
                code="process.no-responses",
                path=path,
            )

    def check_images(self, missing_images: str) -> int:
        """As `rows.pairs.check_images`, with the lines of the file."""
        return check_images([question.images for question in self.questions], missing_images, self.rows)


Reader = Callable[[Any, Path], Question]
"""(a row, folder of its images) -> its question. Raises BadRow."""


def read_questions(path: Path, images_root: Path, read: Reader | None = None) -> QuestionFile:
    """read: `question_of` by default. UserError for a file that is missing or not JSONL."""
    if not path.is_file():
        raise UserError(f"--input {path} is not a file; give a JSONL of questions", code="file.not-a-file", path=path)
    questions, rows = list[Question](), list[int]()
    bad, without, ids = (defaultdict[str, list[int]](list) for _ in range(3))
    for number, line in numbered_lines(path):
        try:
            row = _object(line)
            question = (read or question_of)(row, images_root)
        except BadRow as error:
            bad[error.cause].append(number)
            continue
        questions.append(question)
        rows.append(number)
        for response in (responses := responses_of(row)).values():
            if cause := steps_of(response)[1]:
                without[cause].append(number)
        if not responses:
            without[NO_RESPONSES].append(number)
        if row_id := _id_of(row):
            ids[row_id].append(number)
    repeated = {row_id: lines for row_id, lines in ids.items() if len(lines) > 1}
    return QuestionFile(questions, rows, dict(bad), dict(without), repeated)


def question_of(row: Any, images_root: Path) -> Question:
    """Raises BadRow: not_an_object, no_question, bad_images."""
    if not isinstance(row, dict):
        raise BadRow("not_an_object", "the line is not a JSON object")
    text = row.get("question")
    if not isinstance(text, str) or not text.strip():
        found = "blank" if isinstance(text, str) else type(text).__name__
        raise BadRow("no_question", f"question is {found}, it must be text")
    try:
        names = image_names(row)
    except ValueError as error:
        raise BadRow("bad_images", f"image is not a path or a list of paths: {error}") from None
    solutions = tuple(steps_of(response)[0] for response in responses_of(row).values())
    return Question(text, tuple(names), image_files(names, images_root), solutions)


def responses_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> value of the responses, in the order of their numbers."""
    numbers = {name: int(match[1]) for name in row if (match := _RESPONSE.fullmatch(name))}
    return {name: row[name] for name in sorted(numbers, key=numbers.__getitem__)}


def _object(line: bytes) -> Any:
    try:
        return value_of(line)
    except ValueError:
        raise BadRow("cut_off" if fault_of(line) == CUT_OFF else "not_json", "the line is not JSON") from None


def _id_of(row: Mapping[str, Any]) -> str:
    value = next((row[name] for name in ("id", "pid") if has_id(row.get(name))), None)
    try:
        return "" if value is None else id_text(value)
    except BadId:
        return ""


def check_candidates(candidates: int) -> None:
    """UserError for a number of them that is not compared."""
    if not 1 <= candidates <= MAX_CANDIDATES:
        raise UserError(
            f"{candidates:,} candidates of a question; from 1 to {MAX_CANDIDATES:,} can be compared",
            code="settings.out-of-range",
            name="candidates",
            value=candidates,
        )


def copies(questions: list[Question]) -> list[int]:
    """How many equal questions precede each one."""
    seen, numbers = Counter[str](), []
    for question in questions:
        numbers.append(seen[question.key])
        seen[question.key] += 1
    return numbers
