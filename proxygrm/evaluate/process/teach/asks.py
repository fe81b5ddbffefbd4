"""The four calls to a teacher: describe an image, judge a solution's steps, contradict a description, audit claims."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.unicode_text import check_unicode
from proxygrm.critique.prompts.process import (
    AUDIT,
    CONTRADICT,
    DESCRIBE,
    JUDGEMENTS,
    contradict_prompt,
    describe_prompt,
    judgements_prompt,
)
from proxygrm.evaluate.judges.base import text_hash
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.process import teacher_rows
from proxygrm.process.checklist import Step, checklist_of
from proxygrm.process.judgements import read_audit, read_judgements, same_text
from proxygrm.process.solutions import Solution, read_solutions
from proxygrm.process.stages import DESCRIPTION, Description, audit_text, why_unreadable, without_thought
from proxygrm.process.teacher_rows import Against, TeacherRows, judged_of, key_of

Asks = Literal["describe", "judge", "contradict", "audit"]
PROMPTS: dict[Asks, str] = {"describe": DESCRIBE, "judge": JUDGEMENTS, "contradict": CONTRADICT, "audit": AUDIT}
"""The instruction of each call."""
Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One thing that a teacher is asked about."""

    name: str
    """The id of the solution; of a description, that of the first solution that needs it."""
    text: str
    """The instruction; the images precede it."""
    images: tuple[Path, ...]
    read: Callable[[str], dict[str, Any]]
    """The row that a text of the teacher comes to. Raises BadRow."""
    notes: Callable[[dict[str, Any]], list[str]] = lambda row: []
    """Words for what is remarkable about the row, by which rows are counted."""

    @cached_property
    def key(self) -> str:
        """Of what is asked. Images are named by their content."""
        return text_hash("\0".join((self.text, *(path.name for path in self.images))))

    def row(self, answer: Answer) -> dict[str, Any]:
        """Raises BadRow."""
        text = without_thought(answer["text"])
        if answer["problem"] or not text.strip():
            raise BadRow(why_unreadable(answer), "there is no text")
        try:
            row = self.read(text)
            check_unicode(row, "the answer")
            return row
        except BadRow as error:
            raise BadRow(why_unreadable(answer) if answer["truncated"] else error.cause, str(error)) from error


@dataclass
class Inputs:
    """The solutions, and what teachers have written about them so far."""

    solutions: Path
    descriptions: Path | None = None
    judgements: Path | None = None
    contradictions: Path | None = None

    @property
    def paths(self) -> list[Path]:
        return [p for p in (self.solutions, self.descriptions, self.judgements, self.contradictions) if p is not None]

    def check(self, asks: Asks) -> None:
        """UserError (teacher.needs-rows) for what the call needs and is not given, or is given and of no use."""
        needs = {
            "describe": (),
            "judge": ("descriptions",),
            "contradict": ("descriptions",),
            "audit": ("descriptions", "judgements", "contradictions"),
        }[asks]
        for name in ("descriptions", "judgements", "contradictions"):
            if (getattr(self, name) is not None) != (name in needs):
                raise UserError(
                    f"{asks} {'needs' if name in needs else 'does not use'} the {name}; "
                    f"{'give' if name in needs else 'leave out'} --{name}",
                    code="teacher.needs-rows", asks=asks, name=name,
                )  # fmt: skip


@dataclass
class Shard:
    """A part of the work, and what there is nothing to ask about in it."""

    index: int = 0
    count: int = 1
    left_out: Counter[str] = field(default_factory=Counter)
    """Cause -> solutions, or images and questions for `describe` and `contradict`."""
    left_out_ids: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def leave_out(self, cause: str, name: str) -> None:
        self.left_out[cause] += 1
        self.left_out_ids.append(name)


def items_of(asks: Asks, given: Inputs, shard: Shard, seed: int = 0) -> list[Item]:
    """What the shard asks a teacher. seed: which of the audits are against a contradiction.

    UserError for files of another kind, and for judgements of other solutions.
    """
    given.check(asks)
    made = {"describe": _describing, "judge": _judging, "contradict": _contradicting, "audit": _auditing}[asks]
    return list(made(given, shard, seed))


def _describing(given: Inputs, shard: Shard, seed: int) -> Iterator[Item]:
    for solution in _first_of_each(given.solutions, shard):
        if images := _images(solution, given.solutions, shard):
            yield Item(solution.id, describe_prompt(solution.question), images, partial(_description, solution))


def _contradicting(given: Inputs, shard: Shard, seed: int) -> Iterator[Item]:
    descriptions = TeacherRows(_given(given.descriptions), teacher_rows.DESCRIPTIONS)
    for solution in _first_of_each(given.solutions, shard):
        images = _images(solution, given.solutions, shard)
        description = descriptions.get(key_of(solution))
        if images and description is None:
            shard.leave_out("no_description", solution.id)
        elif images and description:
            text = contradict_prompt(solution.question, description)
            yield Item(solution.id, text, images, partial(_contradiction, solution, description))


def _judging(given: Inputs, shard: Shard, seed: int) -> Iterator[Item]:
    descriptions = TeacherRows(_given(given.descriptions), teacher_rows.DESCRIPTIONS)
    for solution in islice(read_solutions(given.solutions), shard.index, None, shard.count):
        images = _images(solution, given.solutions, shard)
        description = descriptions.get(key_of(solution))
        if images and description is None:
            shard.leave_out("no_description", solution.id)
        elif images and description:
            text = judgements_prompt(solution.question, description, solution.steps, solution.right)
            yield Item(solution.id, text, images, partial(_judgements, solution), partial(_against_outcome, solution))


def _auditing(given: Inputs, shard: Shard, seed: int) -> Iterator[Item]:
    descriptions = TeacherRows(_given(given.descriptions), teacher_rows.DESCRIPTIONS)
    contradictions = TeacherRows(_given(given.contradictions), teacher_rows.CONTRADICTIONS)
    judgements = TeacherRows(_given(given.judgements), teacher_rows.JUDGEMENTS)
    for solution in islice(read_solutions(given.solutions), shard.index, None, shard.count):
        images = _images(solution, given.solutions, shard)
        if not images:
            continue
        judged = judged_of(judgements, solution)
        against = against_of(solution.id, seed)
        truth = (descriptions if against == "description" else contradictions).get(key_of(solution))
        if judged is None or truth is None:
            shard.leave_out("no_judgement" if judged is None else f"no_{against}", solution.id)
            continue
        steps = [Step(text, each.dependency) for text, each in zip(solution.steps, judged, strict=True)]
        text = audit_text(truth, steps)
        if text is None:
            shard.leave_out("no_claims", solution.id)
            continue
        row = {"id": solution.id, "checklist": checklist_of(steps).text, "against": against, DESCRIPTION: truth}
        yield Item(solution.id, text, images, partial(_audit, row))


def against_of(solution_id: str, seed: int) -> Against:
    """Half of the solutions each."""
    digest = hashlib.sha256(f"{seed} {solution_id}".encode(errors="backslashreplace")).digest()
    return "contradiction" if digest[0] % 2 else "description"


def _given(path: Path | None) -> Path:
    assert path is not None, "Inputs.check has been called"
    return path


def _first_of_each(folder: Path, shard: Shard) -> Iterator[Solution]:
    """The first solution of each question and its images; every `count`-th of them."""
    seen = set[str]()
    for solution in read_solutions(folder):
        if (key := key_of(solution)) not in seen:
            if len(seen) % shard.count == shard.index:
                yield solution
            seen.add(key)


def _images(solution: Solution, folder: Path, shard: Shard) -> tuple[Path, ...]:
    """() where there is nothing to see, which is counted."""
    paths = tuple(solution.image_paths(folder))
    if not paths or not all(path.is_file() for path in paths):
        shard.leave_out("missing_image" if paths else "no_image", solution.id)
        return ()
    return paths


def _described(solution: Solution, description: str) -> Row:
    return {"question": solution.question, "image": list(solution.images), DESCRIPTION: description}


def _description(solution: Solution, text: str) -> Row:
    description = Description.of({"text": text, "truncated": False, "problem": None})
    if not description.text:
        raise BadRow(description.problem, "there is no description")
    return _described(solution, description.text)


def _contradiction(solution: Solution, description: str, text: str) -> Row:
    row = _description(solution, text)
    if same_text(row[DESCRIPTION], description):
        raise BadRow("equal_descriptions", "nothing was changed in the description")
    return row


def _judgements(solution: Solution, text: str) -> Row:
    judged = read_judgements(text, len(solution.steps))
    return {"id": solution.id, "steps": [each.row(step) for each, step in zip(judged, solution.steps, strict=True)]}


def _against_outcome(solution: Solution, row: Row) -> list[str]:
    wrong = any(step["score"] == -1 for step in row["steps"])
    if solution.right is None or solution.right != wrong:
        return []
    return ["wrong_step_in_a_right_solution" if wrong else "no_wrong_step_in_a_wrong_solution"]


def _audit(row: Row, text: str) -> Row:
    return {**row, "audit": read_audit(text)}
