"""Several runs over the same solutions: each against the first, and whether a figure falls as something grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import json_rows
from proxygrm.evaluate.scores.metrics import Figures, middle_95
from proxygrm.evaluate.scores.paired import add_holm
from proxygrm.evaluate.steps.answers import judged_of
from proxygrm.evaluate.steps.figures import Judged, figures_of
from proxygrm.evaluate.steps.intervals import RESAMPLES, resampled, swapped

FIGURE = "macro_f1"


def read_runs(files: Mapping[str, Path]) -> dict[str, list[Judged]]:
    """By name, the verdicts of each run in the order of the first. Raises UserError where they are on other solutions:
    eval.other-solutions."""
    rows = {name: {str(row.get("id")): judged_of(row) for _, row in json_rows(file)} for name, file in files.items()}
    first = next(iter(rows))
    labels = {key: solution.labels for key, solution in rows[first].items()}
    for name, solutions in rows.items():
        if {key: solution.labels for key, solution in solutions.items()} != labels:
            raise UserError(
                f"{name} and {first} judged different solutions, so they cannot be compared solution by solution",
                code="eval.other-solutions",
                runs=[first, name],
            )
    return {name: [solutions[key] for key in labels] for name, solutions in rows.items()}


def compare_runs(runs: Mapping[str, Sequence[Judged]]) -> list[Figures]:
    """Every other run against the first: {baseline, run, figure, solutions, difference, low, high, p, p_holm}.

    difference: of the macro F1, run minus baseline, with the 95 % bootstrap interval over solutions; p: two-sided, of
    the two runs' verdicts on each solution being exchanged by chance (approximate randomisation, Yeh 2000), and after
    Holm's correction over all rows.
    """
    (baseline, before), *others = runs.items()
    rows: list[dict[str, Any]] = []
    for name, after in others:
        difference = _value(after) - _value(before)
        a, b = (drawn[FIGURE] for drawn in resampled([before, after]))
        low, high = middle_95(b - a)
        exchanged = [drawn[FIGURE] for drawn in swapped(before, after)]
        as_far = abs(exchanged[1] - exchanged[0]) >= abs(difference) - 1e-12
        rows.append({
            "baseline": baseline, "run": name, "figure": FIGURE, "solutions": len(before), "difference": difference,
            "low": low, "high": high, "p": float((1 + as_far.sum()) / (1 + RESAMPLES)),
        })  # fmt: skip
    add_holm(rows)
    return rows


def trend(xs: Sequence[float], runs: Sequence[Sequence[Judged]]) -> Figures:
    """Whether the macro F1 falls as x grows. xs: of the runs, rising; runs: over the same solutions.

    points: {x, value, low, high} of each run. change: of the last against the first, and rises: each step between
    neighbours that is above 0, as {from, to, difference, low, high}. monotone: whether there is no rise;
    monotone_share: in how many resamples there is none. spearman: the rank correlation of x and the figure, with low
    and high; None where the figure does not change at all. All intervals are 95 % bootstrap over solutions, of which
    the runs share the draws.
    """
    import numpy as np

    values = [_value(run) for run in runs]
    drawn = np.stack([shares[FIGURE] for shares in resampled(runs)], axis=1)
    bounds = [middle_95(drawn[:, at]) for at in range(len(runs))]

    def step(a: int, b: int) -> Figures:
        low, high = middle_95(drawn[:, b] - drawn[:, a])
        return {"from": xs[a], "to": xs[b], "difference": values[b] - values[a], "low": low, "high": high}

    steps = [step(at, at + 1) for at in range(len(runs) - 1)]
    rises = [one for one in steps if one["difference"] > 0]
    correlations = _spearman(np.array(xs, float), np.vstack([values, drawn]))
    known = correlations[1:][~np.isnan(correlations[1:])]
    spearman = None if np.isnan(correlations[0]) else float(correlations[0])
    low, high = middle_95(known) if spearman is not None and len(known) else (None, None)
    return {
        "figure": FIGURE,
        "solutions": len(runs[0]),
        "points": [
            {"x": x, "value": value, "low": a, "high": b} for x, value, (a, b) in zip(xs, values, bounds, strict=True)
        ],
        "change": step(0, len(runs) - 1),
        "rises": rises,
        "monotone": not rises,
        "monotone_share": float((np.diff(drawn, axis=1) <= 1e-12).all(axis=1).mean()),
        "spearman": spearman,
        "spearman_low": low,
        "spearman_high": high,
    }


def _value(run: Sequence[Judged]) -> float:
    return float(figures_of(run)[FIGURE])


def _spearman(xs: Any, rows: Any) -> Any:
    """Rank correlation of xs with each row, ties at their mean rank; NaN for a row of equal values."""
    import numpy as np

    def ranks(values: Any) -> Any:
        below = (values[..., None, :] < values[..., :, None] - 1e-12).sum(-1)
        equal = (abs(values[..., None, :] - values[..., :, None]) <= 1e-12).sum(-1)
        return below + (equal - 1) / 2

    a, b = ranks(xs), ranks(rows)
    a, b = a - a.mean(), b - b.mean(axis=-1, keepdims=True)
    spread = np.sqrt((a * a).sum() * (b * b).sum(axis=-1))
    return np.divide(b @ a, spread, out=np.full(len(b), np.nan), where=spread > 1e-12)
