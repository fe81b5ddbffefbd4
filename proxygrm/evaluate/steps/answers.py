"""Verdicts on the steps of a benchmark, to be scored: {data_source, label: [1|0|-1, ...], pred: [1|-1|null, ...]}.

In place of `pred` a row may have `scores`, numbers or null, which a threshold turns into verdicts. A row of `eval run`
has an `id`, and one that repeats is refused.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import CUT_OFF, fault_of, numbered_lines, value_of
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.rows.text import reasons_text
from proxygrm.evaluate.steps.benchmark import LABELS, RIGHT, WRONG, Size, StepBenchmark
from proxygrm.evaluate.steps.figures import Judged, Verdict


class BadRow(ValueError):
    """Why a row cannot be scored."""


@dataclass(frozen=True)
class StepAnswers:
    solutions: list[Judged]
    notes: list[str]
    """What the reader of the figures has to know, PARTIAL first."""


def read_step_answers(
    path: Path, bench: StepBenchmark, partial: bool = False, threshold: float | None = None
) -> StepAnswers:
    """Read and check a file of verdicts. UserError names the rows that cannot be scored, and says what is missing from
    the benchmark unless `partial`.

    threshold: a step is right when its score is above it; needed for rows with `scores` alone.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {problem}; pass the JSONL file of answers", code="eval.answers-missing", path=path)
    solutions: list[Judged] = []
    invalid, ids = defaultdict[str, list[int]](list), dict[str, int]()
    for number, line in numbered_lines(path):
        try:
            row = value_of(line)
        except ValueError:
            invalid[fault_of(line)].append(number)
            continue
        try:
            solutions.append(judged_of(row, threshold))
            if (id_ := _id_of(row)) and ids.setdefault(id_, number) != number:
                raise BadRow("an id that an earlier row has")
        except BadRow as reason:
            invalid[str(reason)].append(number)
    cut_off = invalid.pop(CUT_OFF, []) if partial else []
    if invalid:
        raise UserError(
            f"{path}: {reasons_text(invalid)}; nothing was scored, fix these rows or judge them again",
            code="eval.bad-answers",
            path=path,
            reasons=dict(invalid),
        )
    if not solutions:
        raise UserError(
            f"{path} has no answers; pass a JSONL of {{data_source, label, pred}}", code="eval.no-answers", path=path
        )
    unlike = differences(solutions, bench)
    if unlike and not partial:
        raise UserError(
            f"{path} is not all of {bench.title}, and nothing else: {'; '.join(unlike)}; judge the rest, or score "
            "what there is with --partial",
            code="eval.partial-steps",
            path=path,
            differences=unlike,
        )
    return StepAnswers(solutions, _notes(solutions, bench, unlike, cut_off))


def judged_of(row: Any, threshold: float | None = None) -> Judged:
    """Raises BadRow."""
    if not isinstance(row, dict):
        raise BadRow("not a JSON object")
    source, labels = row.get("data_source"), row.get("label")
    if not isinstance(source, str) or not source:
        raise BadRow("no data_source")
    if not isinstance(labels, list) or not labels:
        raise BadRow("no label")
    if not all(is_number(label) and label in LABELS for label in labels):
        raise BadRow("a label that is not 1, 0 or -1")
    name = "pred" if threshold is None else "scores"
    values = row.get(name)
    if not isinstance(values, list):
        hint = ", but scores: pass --threshold" if threshold is None and "scores" in row else ""
        raise BadRow(f"no {name}{hint}")
    if len(values) != len(labels):
        raise BadRow(f"another number of values in {name} than in label")
    read: Callable[[Any], Verdict] = _verdict if threshold is None else lambda score: verdict_of(score, threshold)
    return Judged(source, tuple(map(int, labels)), tuple(map(read, values)))


def verdict_of(score: Any, threshold: float) -> Verdict:
    """Raises BadRow for what is neither a finite number nor null."""
    if score is None:
        return None
    if not is_number(score) or not math.isfinite(score):
        raise BadRow("a score that is not a finite number")
    return RIGHT if score > threshold else WRONG


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _verdict(value: Any) -> Verdict:
    if value is None:
        return None
    if not is_number(value) or value not in (RIGHT, WRONG):
        raise BadRow("a pred that is not 1, -1 or null")
    return int(value)


def _id_of(row: dict[str, Any]) -> str:
    if not has_id(row.get("id")):
        return ""
    try:
        return id_text(row["id"])
    except BadId as error:
        raise BadRow(str(error)) from error


def differences(solutions: Sequence[Judged], bench: StepBenchmark) -> list[str]:
    """How the rows differ from the release, in words; [] for all of it."""
    counts, steps = Counter[str](), Counter[str]()
    for solution in solutions:
        counts[solution.source] += 1
        steps[solution.source] += len(solution.labels)
    none = Size(0, 0)
    return [
        f"{source} has {counts[source]:,} solutions of {steps[source]:,} steps instead of {size.solutions:,} of "
        f"{size.steps:,}"
        for source in [*bench.sizes, *sorted(counts.keys() - bench.sizes.keys())]
        for size in [bench.sizes.get(source, none)]
        if size != (counts[source], steps[source])
    ]


def _notes(
    solutions: Sequence[Judged], bench: StepBenchmark, unlike: Sequence[str], cut_off: Sequence[int]
) -> list[str]:
    notes = []
    if unlike:
        total = bench.total.solutions
        notes.append(f"PARTIAL: {len(solutions):,} solutions, {bench.title} has {total:,}; {'; '.join(unlike)}")
    if cut_off:
        notes.append(f"PARTIAL: the last line (row {cut_off[0]}) is cut off and left out")
    steps = [pair for s in solutions for pair in zip(s.labels, s.verdicts, strict=True) if pair[0]]
    if unreadable := sum(verdict is None for _, verdict in steps):
        notes.append(f"{unreadable:,} of {len(steps):,} verdicts are unreadable (null); each counts against its label")
    return notes
