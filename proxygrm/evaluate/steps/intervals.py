"""How sure the figures of a step benchmark are: bootstrap over solutions, whose steps are drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxygrm.evaluate.scores.metrics import middle_95
from proxygrm.evaluate.steps.benchmark import NEUTRAL, RIGHT, WRONG
from proxygrm.evaluate.steps.figures import Judged, figures_of, finds_first_error

SHARES = ("macro_f1", "f1_correct", "f1_incorrect", "first_error_accuracy")
"""The figures that have an interval."""
RESAMPLES = 2000


def figures_with_intervals(solutions: Sequence[Judged], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """`figures_of`, also of each source, with KEY_low and KEY_high of each share: the 95 % percentile bootstrap."""
    figures = figures_of(solutions)
    by_source = {
        source: part | _intervals([s for s in solutions if s.source == source], resamples, seed)
        for source, part in figures["by_source"].items()
    }
    return figures | _intervals(solutions, resamples, seed) | {"by_source": by_source}


def _intervals(solutions: Sequence[Judged], resamples: int, seed: int) -> dict[str, float]:
    drawn = resampled([solutions], resamples, seed)[0]
    return {
        f"{name}_{end}": value
        for name in SHARES
        for end, value in zip(("low", "high"), middle_95(drawn[name]), strict=True)
    }


def resampled(runs: Sequence[Sequence[Judged]], resamples: int = RESAMPLES, seed: int = 0) -> list[dict[str, Any]]:
    """Of each run, the shares in every resample (arrays). runs: verdicts on the same solutions, in the same order, of
    which all draw the same ones, whichever other runs there are."""
    import numpy as np

    total = len(runs[0])
    drawn = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), size=resamples).astype(float)
    return [_shares(drawn @ np.array([_counts(solution) for solution in run], float), total) for run in runs]


def _counts(solution: Judged) -> tuple[int, ...]:
    """Of each class hits, and labels and verdicts together; whether the first error is found."""
    scored = [pair for pair in zip(solution.labels, solution.verdicts, strict=True) if pair[0] != NEUTRAL]
    numbers: list[int] = []
    for of in (RIGHT, WRONG):
        numbers.append(sum(label == verdict == of for label, verdict in scored))
        numbers.append(sum((label == of) + (verdict == of) for label, verdict in scored))
    return *numbers, int(finds_first_error(solution.labels, solution.verdicts))


def _shares(sums: Any, total: int) -> dict[str, Any]:
    import numpy as np

    f1 = [
        2 * hits / np.maximum(either, 1) for hits, either in ((sums[:, 0], sums[:, 1]), (sums[:, 2], sums[:, 3]))
    ]  # without a label or a verdict of the class there is no hit either: 0
    return {
        "macro_f1": (f1[0] + f1[1]) / 2,
        "f1_correct": f1[0],
        "f1_incorrect": f1[1],
        "first_error_accuracy": sums[:, 4] / total,
    }


def swapped(one: Sequence[Judged], other: Sequence[Judged], resamples: int = RESAMPLES, seed: int = 0) -> Any:
    """The shares of both runs (see `resampled`) when each solution's verdicts are exchanged between them by a fair
    coin: as different as they are by chance."""
    import numpy as np

    a, b = (np.array([_counts(solution) for solution in run], float) for run in (one, other))
    coins = np.random.default_rng(seed).integers(0, 2, (resamples, len(a)))
    moved = coins @ (b - a)
    return _shares(a.sum(axis=0) + moved, len(a)), _shares(b.sum(axis=0) - moved, len(a))
