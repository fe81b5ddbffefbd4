"""Solutions whose steps are labelled, as a policy's rows: `process score` scores them, `process calibrate` compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.output_file import check_output
from proxygrm.evaluate.rows.row_file import Row, write_rows
from proxygrm.process.judgements import Judged
from proxygrm.process.policy_json import FINAL, STEPS
from proxygrm.process.solutions import PAIRS, REPORT, SOLUTIONS, Solution, read_solutions
from proxygrm.process.teacher_rows import JUDGEMENTS, TeacherRows, judged_of, key_of


def write_labelled(solutions: Path, judgements: Path, target: Path, questions: int = 0) -> Counter[str]:
    """Write a row for each question about its images, {question, image, vlmresponse1: {reasoningprocess, finalanswer:
    null, labels}, ...}: the steps lean on what the teacher says, the labels are the release's. Image paths are relative
    to `solutions`. questions: only the first so many; 0: all.

    Returns counts: rows, solutions, and why others are left out (not_judged, no_labels). UserError as of
    `read_solutions` and `TeacherRows`, and where nothing is left: data.nothing-labelled.
    """
    counts, judged = Counter[str](), TeacherRows(judgements, JUDGEMENTS)
    check_output(target, [solutions / SOLUTIONS, solutions / PAIRS, solutions / REPORT, *judged.files])
    wanted = dict.fromkeys(islice(_keys(solutions), questions or None))
    by_question: dict[str, Row] = {}
    for solution in read_solutions(solutions):
        if (key := key_of(solution)) not in wanted:
            continue
        steps = judged_of(judged, solution)
        if steps is None or all(label is None for label in solution.labels):
            counts["not_judged" if steps is None else "no_labels"] += 1
            continue
        row = by_question.setdefault(key, {"question": solution.question, "image": list(solution.images)})
        row[f"vlmresponse{len(row) - 1}"] = _response(solution, steps)
        counts["solutions"] += 1
    if not by_question:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in sorted(counts.items())) or "it has no solutions"
        raise UserError(
            f"{solutions} has no solution with labels that {judgements} judges ({causes}); take the solutions that the "
            "teacher judged",
            code="data.nothing-labelled",
            path=solutions,
            counts=dict(counts),
        )
    write_rows(target, by_question.values())
    return counts + Counter(rows=len(by_question))


def _keys(solutions: Path) -> Iterator[str]:
    """Of the questions, each once, in order."""
    seen = set[str]()
    for solution in read_solutions(solutions):
        if (key := key_of(solution)) not in seen:
            seen.add(key)
            yield key


def _response(solution: Solution, judged: list[Judged]) -> dict[str, Any]:
    steps = [
        {"steptext": text, "visualdependency": one.dependency} for text, one in zip(solution.steps, judged, strict=True)
    ]
    return {STEPS: steps, FINAL: None, "labels": list(solution.labels)}
