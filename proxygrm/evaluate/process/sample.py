"""`process sample`: N candidate solutions of each question, by a checkpoint or an endpoint.

FOLDER/process_policy.jsonl   the raw answers as they arrive, with their seeds; a row's candidates are known by its
                              question, its images, and how many equal rows precede it, never by the image's path alone
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.critique.prompts.process import POLICY, policy_prompt
from proxygrm.evaluate.judges.base import Calls, Progress
from proxygrm.evaluate.judges.endpoint import Unanswered
from proxygrm.evaluate.judges.engine import Request
from proxygrm.evaluate.process.questions import (
    Question,
    QuestionFile,
    check_candidates,
    copies,
    question_of,
    responses_of,
)
from proxygrm.evaluate.rows.row_file import Row, RowFile
from proxygrm.evaluate.rows.text import rows_text
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.process.policy_json import read_policy
from proxygrm.process.stages import why_unreadable


@dataclass(frozen=True)
class Sampling:
    candidates: int
    """Of each question."""
    settings: EvaluateSettings
    """`max_tokens` is of one candidate."""

    def __post_init__(self) -> None:
        check_candidates(self.candidates)
        if self.candidates > 1 and self.settings.temperature == 0:
            raise UserError(
                f"at temperature 0 all {self.candidates} candidates are the same; pass --temperature 1, say",
                code="settings.contradiction",
                votes=self.candidates,
            )


@dataclass
class Samples:
    """The answers, and what they came to."""

    model: str
    sampling: Sampling
    answers: Mapping[str, Row]
    problems: Counter[str] = field(default_factory=Counter)
    """Why candidates are not complete solutions."""
    unusable: int = 0
    """Candidates without steps."""
    _copies: Counter[str] = field(default_factory=Counter)

    def row(self, row: Any, images_root: Path) -> dict[str, Any]:
        """The row with vlmresponse1 ... N, and with `sampling`: model, settings and seeds. To be called once per row,
        in their order. Raises BadRow."""
        question = fresh_question(row, images_root)
        copy = self._copies[question.key]
        self._copies[question.key] += 1
        sampled, seeds = dict(row), []
        for request in requests_of(question, copy, self.sampling.candidates):
            answer = self.answers.get(request.key)
            if answer is None:  # the file has changed since it was read
                raise BadRow("unknown_row", "this question was not there when the run started")
            read = read_policy(answer["text"])
            if read.problem:
                lost = answer["truncated"] or answer["problem"]
                self.problems[why_unreadable(answer) if lost else read.problem] += 1
            self.unusable += not read.ok
            seeds.append(answer["seed"])
            sampled[f"vlmresponse{len(seeds)}"] = read.row
        settings = self.sampling.settings
        return sampled | {
            "sampling": {
                "model": self.model, "temperature": settings.temperature, "top_p": settings.top_p, "seeds": seeds,
            }
        }  # fmt: skip


def fresh_question(row: Any, images_root: Path) -> Question:
    """Raises BadRow, also for a row that has candidates: they would be overwritten."""
    question = question_of(row, images_root)
    if present := list(responses_of(row)):
        raise BadRow("has_responses", f"the row has {present[0]} already, which would be overwritten")
    return question


def sample_questions(file: QuestionFile, sampling: Sampling, calls: Calls, folder: Path, progress: Progress) -> Samples:
    """UserError when candidates get no answer; the others are kept, and the next run asks for the rest."""
    max_tokens, per_row = sampling.settings.max_tokens, sampling.candidates
    wanted = [
        request
        for question, copy in zip(file.questions, copies(file.questions), strict=True)
        for request in requests_of(question, copy, per_row)
    ]
    with RowFile(folder / f"{POLICY}.jsonl", calls.made_by(POLICY, max_tokens)) as answered:
        answers = {row["key"]: row for row in answered.rows}
        missing = [request for request in wanted if request.key not in answers]
        if missing:
            take = _taking(answers, answered, len(wanted), calls.name, progress)
            works = any(row["problem"] is None for row in answers.values())
            most = max(len(request.images) for request in missing)
            progress(len(wanted) - len(missing), len(wanted), f"loading {calls.name}")
            try:
                calls.answer(missing, len(missing), most, take, works)
            except Unanswered as error:
                lines = [file.rows[at // per_row] for at, request in enumerate(wanted) if request.key not in answers]
                lines = list(dict.fromkeys(lines))
                raise Unanswered(f"{error} ({rows_text(lines)})", **error.values | {"rows": lines}) from error
    return Samples(calls.name, sampling, answers)


def sample_report(samples: Samples, file: QuestionFile, missing_images: int) -> dict[str, Any]:
    """What was sampled, and what is wrong with it by cause."""
    return {
        "candidates": samples.sampling.candidates,
        "problems": samples.problems,
        "without_steps": samples.unusable,
        "missing_images": missing_images,
        "repeated_ids": file.repeated_ids,
    }


def _taking(answers: dict[str, Row], file: RowFile, total: int, name: str, progress: Progress) -> Callable[[Row], None]:
    def take(row: Row) -> None:
        file.append(row)
        answers[row["key"]] = row
        progress(len(answers), total, f"sampling with {name}")

    return take


def requests_of(question: Question, copy: int, candidates: int) -> list[Request]:
    """One for each candidate; they share images and instruction."""
    text = policy_prompt(question.text)
    return [Request(f"{question.key}#{copy}/{at}", text, question.images) for at in range(1, candidates + 1)]
