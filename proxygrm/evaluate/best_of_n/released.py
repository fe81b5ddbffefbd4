"""Best of eight as the released metric counts it (`process best-of-n --compat upstream`).

It reads the raw scores alone, so the gate has no effect; a tie counts as right when one of the tied is; and Pass@1 is
the one position of the eight that is right most often in the whole file, chosen afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isclose
from pathlib import Path
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import object_rows
from proxygrm.evaluate.best_of_n.solutions import OVERALL, UNKNOWN
from proxygrm.process.aggregate import RELEASED, aggregate, scores_in
from proxygrm.process.match.answers import answers_equal

N = 8
MISSING = -1.0
"""The score of a response that is not there."""


def released_best_of_n(path: Path) -> dict[str, dict[str, Any]]:
    """{data source: {total, AGGREGATOR: {pass_correct: [8], bon_correct: [8]}}} and OVERALL: counts of questions."""
    numbered = list(object_rows(path))
    rows = [row for _, row in numbered]
    if not rows:
        raise UserError(f"{path} has no rows; pass what `process score` writes", code="file.empty", path=path)
    sources = [str(row.get("datasource") or UNKNOWN) for row in rows]
    correct = [[_correct(row, number) for number in range(1, N + 1)] for row in rows]
    right_at = [sum(of_row[position] for of_row in correct) for position in range(N)]
    best_position = right_at.index(max(right_at))
    chosen = {
        name: [
            _chosen(row, (path, number), right, name) for (number, row), right in zip(numbered, correct, strict=True)
        ]
        for name in RELEASED
    }

    def counted(within: Callable[[int], bool]) -> dict[str, Any]:
        members = [index for index in range(len(rows)) if within(index)]
        passed = [sum(any(correct[index][: k + 1]) for index in members) for k in range(N)]
        passed[0] = sum(correct[index][best_position] for index in members)
        of_names = {
            name: {
                "pass_correct": list(passed),
                "bon_correct": [sum(chosen[name][index][k] for index in members) for k in range(N)],
            }
            for name in RELEASED
        }
        return {"total": len(members)} | of_names

    names = list(dict.fromkeys(sources))
    by_source = {name: counted(lambda index, name=name: sources[index] == name) for name in names}  # type: ignore[misc]
    return by_source | {OVERALL: counted(lambda index: True)}


def _correct(row: dict[str, Any], number: int) -> bool:
    response = row.get(f"vlmresponse{number}")
    answer = response.get("finalanswer") if isinstance(response, dict) else None
    return answers_equal(answer, row.get("answer"), row.get("choices"), as_upstream=True)


def _chosen(row: dict[str, Any], at: tuple[Path, int], correct: Sequence[bool], name: str) -> list[bool]:
    """For k = 1..8: whether one of the first k with the highest score is right."""
    scores = [_score(row, at, number, name) for number in range(1, N + 1)]
    right = []
    for k in range(1, N + 1):
        best = max(scores[:k])
        tied = [index for index in range(k) if isclose(scores[index], best, rel_tol=1e-9)]
        right.append(any(correct[index] for index in tied))
    return right


def _score(row: dict[str, Any], at: tuple[Path, int], number: int, name: str) -> float:
    response = row.get(f"vlmresponse{number}")
    if not isinstance(response, dict):
        return MISSING
    judged = response.get("eval")
    scores = judged.get("raw_step_scores") if isinstance(judged, dict) else None
    if not isinstance(scores, list):
        return 0.0
    path, row_number = at
    where = f"{path} row {row_number}: raw_step_scores of vlmresponse{number}"
    try:
        value = aggregate(name, scores_in(scores))
    except BadRow as error:
        raise UserError(
            f"{where}: {error}; fix this row or leave it out", code="eval.bad-solutions", rows=[row_number]
        ) from None
    if value is None:
        raise UserError(
            f"{where} has nulls, which the released metric does not know; score with --compat upstream, or leave it "
            "out here", code="eval.null-scores", row=row_number, response=number,
        )  # fmt: skip
    return value
