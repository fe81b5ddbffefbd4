"""Questions with scored candidate solutions, as `process score` writes them: `vlmresponse1`, `vlmresponse2`, ..."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import object_rows
from proxygrm.evaluate.best_of_n.ranking import prompt_id
from proxygrm.evaluate.process.questions import MAX_CANDIDATES
from proxygrm.evaluate.rows.text import ids_text, reasons_text
from proxygrm.process.aggregate import scores_in
from proxygrm.process.match.answers import answer_class, answers_equal, is_answer
from proxygrm.process.match.choices import choices_of

UNKNOWN = "UNKNOWN"
"""The data source of a row that names none."""
OVERALL = "OVERALL"
_RESPONSE = re.compile(r"vlmresponse([1-9][0-9]*)")
_LISTS = {"raw": "raw_step_scores", "final": "final_step_scores"}


@dataclass(frozen=True, slots=True)
class Candidate:
    answer_class: str
    """Of equal final answers the same; "": the policy gave none."""
    correct: bool
    scores: Sequence[float | None]
    """Of the steps; empty: none, not judged or not there."""
    missing: bool = False
    """The row has no such response."""


@dataclass(frozen=True, slots=True)
class Question:
    source: str
    cluster: Hashable
    """The same for rows that repeat a question: they are drawn together."""
    candidates: tuple[Candidate, ...]
    """Of every question equally many, in the order of their numbers."""


@dataclass(frozen=True, slots=True)
class Solutions:
    questions: list[Question]
    counts: Counter[str]
    """What is not as it should be, in words -> how often."""


def response_numbers(row: dict[str, Any]) -> list[int]:
    return sorted(int(match[1][:9]) for key in row if (match := _RESPONSE.fullmatch(key)))


def present_responses(row: dict[str, Any]) -> list[Any]:
    """Those that are not missing, in the order of their numbers."""
    return [row[name] for number in response_numbers(row) if row[name := f"vlmresponse{number}"] is not None]


def read_solutions(path: Path, scores: str = "final") -> Solutions:
    """scores: "final", the gated ones, or "raw".

    A question with fewer candidates than another one gets missing ones, which are wrong and not scored. UserError with
    the row numbers for rows without an answer, without candidates or with other scores than numbers, and for repeated
    ids.
    """
    rows: dict[int, dict[str, Any]] = {}
    bad: dict[str, list[int]] = {}
    ids: Counter[str] = Counter()
    for number, row in object_rows(path):
        rows[number] = row
        if (row_id := prompt_id(row, path, number)) is not None:
            ids[row_id] += 1
        if not is_answer(row.get("answer")):
            bad.setdefault("no `answer`", []).append(number)
        elif not response_numbers(row):
            bad.setdefault("no vlmresponse1", []).append(number)
        elif response_numbers(row)[-1] > MAX_CANDIDATES:
            bad.setdefault(f"a number of vlmresponse above {MAX_CANDIDATES:,}", []).append(number)
        elif row.get("datasource") == OVERALL:
            bad.setdefault(f"the data source {OVERALL}, which is the name of all together,", []).append(number)
    if not rows:
        raise UserError(f"{path} has no rows; pass what `process score` writes", code="file.empty", path=path)
    _refuse(path, bad)
    if repeated := [row_id for row_id, count in ids.items() if count > 1]:
        raise UserError(
            f"{path} repeats {len(repeated):,} ids ({ids_text(repeated)}); keep one row for each question",
            code="eval.repeated-ids", path=path, ids=repeated,
        )  # fmt: skip
    most = max(response_numbers(row)[-1] for row in rows.values())
    questions, counts = [], Counter[str]()
    for number, row in rows.items():
        try:
            questions.append(_question(row, number, most, _LISTS[scores]))
        except BadRow as error:
            bad.setdefault(str(error), []).append(number)
    _refuse(path, bad)
    for question in questions:
        counts["rows without a data source"] += question.source == UNKNOWN
        for candidate in question.candidates:
            counts["candidates missing"] += candidate.missing
            counts["candidates without an answer"] += not candidate.missing and not candidate.answer_class
            without = not candidate.scores or None in candidate.scores
            counts["candidates without a score"] += not candidate.missing and without
    if counts["candidates without a score"] + counts["candidates missing"] == len(questions) * most:
        raise UserError(
            f"{path}: no candidate has {_LISTS[scores]}; run `process score` first, or pass --scores "
            f"{'raw' if scores == 'final' else 'final'}",
            code="eval.no-scores", path=path, scores=scores,
        )  # fmt: skip
    return Solutions(questions, counts)


def _refuse(path: Path, bad: dict[str, list[int]]) -> None:
    if bad:
        rows = sorted(number for numbers in bad.values() for number in numbers)
        raise UserError(
            f"{path}: {reasons_text(bad)}; fix these rows or leave them out",
            code="eval.bad-solutions", path=path, rows=rows,
        )  # fmt: skip


def _question(row: dict[str, Any], number: int, most: int, list_name: str) -> Question:
    question, choices = row.get("question"), choices_of(row)
    candidates = tuple(_candidate(row, index, choices, list_name) for index in range(1, most + 1))
    source = row.get("datasource")
    cluster: Hashable = (question, str(row.get("image"))) if isinstance(question, str) else number
    return Question(source if isinstance(source, str) and source else UNKNOWN, cluster, candidates)


def _candidate(row: dict[str, Any], index: int, choices: list[Any], list_name: str) -> Candidate:
    response = row.get(f"vlmresponse{index}")
    if response is None:
        return Candidate("", False, (), missing=True)
    if not isinstance(response, dict):
        return Candidate("", False, ())
    answer, judged = response.get("finalanswer"), response.get("eval")
    scores = judged.get(list_name) if isinstance(judged, dict) else None
    try:
        checked = scores_in(scores) if scores is not None else []
    except BadRow as error:
        raise BadRow(error.cause, f"{list_name} of vlmresponse{index}: {error}") from None
    if answer is None:
        return Candidate("", False, checked)
    return Candidate(answer_class(answer, choices), answers_equal(answer, row["answer"], choices), checked)
