"""From the scores of a solution's steps to one score of the solution.

The first five are the released ones and ask for exact values: a gated step, 0.8, is neither right (1) nor an error
(-1). The other three take (score + 1) / 2 as the probability that a step is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from proxygrm.core.bad_row import BadRow

Scores = Sequence[float]


def correctness_rate(scores: Scores) -> float:
    """Share of the steps that are exactly 1."""
    return _right(scores) / len(scores)


def weighted_correctness(scores: Scores) -> float:
    """(sum of i x score_i + W) / 2 W with W = n (n + 1) / 2 and i from 1: later steps weigh more."""
    weight = len(scores) * (len(scores) + 1) / 2
    return (sum(number * score for number, score in enumerate(scores, 1)) + weight) / (2 * weight)


def streak_score(scores: Scores) -> float:
    """A right step adds the length of the run of right steps that it ends, any other one takes 1; scaled to 0..1."""
    streak = total = 0
    for score in scores:
        streak = streak + 1 if score == 1 else 0
        total += streak or -1
    n = len(scores)
    return (total + n) / (n * (n + 1) / 2 + n)


def geometric_mean(scores: Scores) -> float:
    """Of 1 for a right step and 0.1 for any other one."""
    return float(0.1 ** ((len(scores) - _right(scores)) / len(scores)))


def first_error_position(scores: Scores) -> float:
    """Steps before the first -1, as a share of all; 1 without an error."""
    return next((index for index, score in enumerate(scores) if score == -1), len(scores)) / len(scores)


def minimum(scores: Scores) -> float:
    """(lowest score + 1) / 2."""
    return (min(scores) + 1) / 2


def product(scores: Scores) -> float:
    """Product of (score + 1) / 2."""
    return math.prod((score + 1) / 2 for score in scores)


def mean(scores: Scores) -> float:
    """Mean of (score + 1) / 2."""
    return math.fsum((score + 1) / 2 for score in scores) / len(scores)


def _right(scores: Scores) -> int:
    return sum(score == 1 for score in scores)


AGGREGATORS: dict[str, Callable[[Scores], float]] = {
    function.__name__: function
    for function in (
        correctness_rate, weighted_correctness, streak_score, geometric_mean, first_error_position,
        minimum, product, mean,
    )
}  # fmt: skip
RELEASED = tuple(AGGREGATORS)[:5]
"""Those that the authors released, in their order."""


def aggregate(name: str, scores: Sequence[float | None] | None) -> float | None:
    """0.0 for no steps. None where a score is unknown, or all are."""
    if scores is None or None in scores:
        return None
    return float(AGGREGATORS[name](scores)) if scores else 0.0  # type: ignore[arg-type]  # no None is left


def aggregates(scores: Sequence[float | None] | None, names: Iterable[str] = AGGREGATORS) -> dict[str, float | None]:
    return {name: aggregate(name, scores) for name in names}


def scores_in(value: Any) -> list[float | None]:
    """A list of numbers from -1 to 1, or null for unknown ones. Raises BadRow."""
    if not isinstance(value, list):
        raise BadRow("no_scores", f"scores is {type(value).__name__}, it must be a list of numbers")
    for number, score in enumerate(value, 1):
        numeric = isinstance(score, int | float) and not isinstance(score, bool)
        if score is not None and not (numeric and -1 <= score <= 1):
            shown = repr(score) if numeric else type(score).__name__
            raise BadRow("bad_score", f"score {number} is {shown[:40]}, it must be a number from -1 to 1, or null")
    return value


def aggregated_row(row: Any) -> dict[str, Any]:
    """The row with every aggregate of its `scores`. Raises BadRow."""
    if not isinstance(row, dict):
        raise BadRow("not_an_object", "the line is not a JSON object")
    return row | aggregates(scores_in(row.get("scores")))
