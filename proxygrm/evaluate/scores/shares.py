"""Shares of right pairs in categories, with intervals: what is averaged over what, and what counts as one trial.

A category may be a weighted mean of its strata (RewardBench's subsets). Several pairs may be one trial (RM-Bench's nine
comparisons of the same six responses): the mean of a stratum is over pairs, its uncertainty that of so many trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import Benchmark, Partition
from proxygrm.evaluate.rows.text import rows_text
from proxygrm.evaluate.scores.metrics import Figures, macro_interval, wilson
from proxygrm.evaluate.scores.pairs import Arranged


@dataclass(frozen=True)
class Grouping:
    """Category, stratum and trial of every pair, by one partition."""

    cut: Partition
    names: list[str]
    strata: list[str]
    trials: list[str] | None
    """None: each pair is a trial."""


def grouping_of(arranged: Arranged, bench: Benchmark, cut: Partition) -> Grouping:
    """UserError with the rows that lack what the partition needs."""
    facts = [pair.facts for pair in arranged.pairs]
    names = [cut.category(f) for f in facts]
    strata = [cut.stratum(f) for f in facts] if cut.stratum else names
    without = sorted(
        pair.judgements[0].row
        for pair, name, stratum in zip(arranged.pairs, names, strata, strict=True)
        if name is None or stratum is None
    )
    if without:
        raise UserError(
            f"{rows_text(without)}: the category is unknown, because the row lacks {cut.needs}",
            code="eval.no-category",
            rows=without,
            needs=cut.needs,
        )
    trials = [bench.trial(f) for f in facts] if bench.trial else None
    return Grouping(cut, [str(name) for name in names], [str(stratum) for stratum in strata], trials)


class Stratum(NamedTuple):
    weight: float  # in its category; the weights of a category add up to 1
    pairs: int
    mean: float
    trials: Any  # the score of each trial: the mean of its pairs
    rows: Any = ()  # where its pairs are


def summary(scores: Any, grouping: Grouping) -> Figures:
    """n, overall and macro of one way of counting."""
    counted = scores[_counted(scores)]
    groups = [_mean(strata) for strata in _categories(scores, grouping).values()]
    overall = float(counted.mean()) if len(counted) else None
    if grouping.cut.macro_with_all and overall is not None:
        groups.append(overall)
    return {"n": len(counted), "overall": overall, "macro": sum(groups) / len(groups) if groups else None}


def by_category(scores: Any, grouping: Grouping) -> dict[str, Figures]:
    """{category: n, accuracy, low, high}, in the partition's order."""
    categories, order = _categories(scores, grouping), grouping.cut.names
    names = [name for name in order if name in categories] + [name for name in categories if name not in order]
    return {name: _share(categories[name]) for name in names}


def by_name(scores: Any, names: Sequence[str | None]) -> dict[str, Figures]:
    """The same for any names of the pairs; a pair without one is left out."""
    import numpy as np

    labels, counted = np.array([name or "" for name in names]), _counted(scores)
    groups = {str(name): scores[(labels == name) & counted] for name in np.unique(labels) if name}
    return {name: _share([Stratum(1.0, len(g), float(g.mean()), g)]) for name, g in groups.items() if len(g)}


def overall_interval(scores: Any, grouping: Grouping) -> tuple[float, float]:
    counted = _counted(scores)
    right, n = float(scores[counted].sum()), int(counted.sum())
    if grouping.trials is None or not n:
        return wilson(right, n)
    trials = len({trial for trial, counts in zip(grouping.trials, counted, strict=True) if counts})
    return wilson(right / n * trials, trials)


def interval_of_macro(scores: Any, grouping: Grouping) -> list[float]:
    """Bootstrap; trials are drawn within their stratum, whose weight is part of the benchmark's design."""
    categories = _categories(scores, grouping)
    pairs = sum(stratum.pairs for strata in categories.values() for stratum in strata)
    groups, weights = [], []
    for strata in categories.values():
        of_category = sum(stratum.pairs for stratum in strata)
        # With `macro_with_all` the overall is one more group: the mean of the categories by their pairs.
        category_weight = 1 + of_category / pairs if grouping.cut.macro_with_all else 1.0
        for stratum in strata:
            groups.append(stratum.trials)
            weights.append(category_weight * stratum.weight)
    return list(macro_interval(groups, weights))


def macro_weights(scores: Any, grouping: Grouping) -> Any:
    """What each pair weighs in the macro: scores times weights add up to it. 0 for a pair that does not count."""
    import numpy as np

    categories, counted, weights = _categories(scores, grouping), _counted(scores), np.zeros(len(scores))
    for stratum in (stratum for strata in categories.values() for stratum in strata):
        weights[stratum.rows] = stratum.weight / stratum.pairs
    if grouping.cut.macro_with_all:
        weights[counted] += 1 / counted.sum()
    return weights / (len(categories) + grouping.cut.macro_with_all)


def _categories(scores: Any, grouping: Grouping) -> dict[str, list[Stratum]]:
    """Category -> its strata, those with counted pairs only."""
    import numpy as np

    counted = np.flatnonzero(_counted(scores))
    names, strata = np.array(grouping.names), np.array(grouping.strata)
    trials = None if grouping.trials is None else np.array(grouping.trials)
    categories: dict[str, list[Stratum]] = {}
    for name in np.unique(names[counted]):
        of_category = counted[names[counted] == name]
        parts = {str(s): of_category[strata[of_category] == s] for s in np.unique(strata[of_category])}
        weights = {part: grouping.cut.weights.get(part, 1.0) for part in parts}
        categories[str(name)] = [
            Stratum(
                weights[part] / sum(weights.values()), len(rows), float(scores[rows].mean()),
                scores[rows] if trials is None else _means(scores[rows], trials[rows]), rows,
            )
            for part, rows in parts.items()
        ]  # fmt: skip
    return categories


def _means(scores: Any, labels: Any) -> Any:
    """Mean score of each label."""
    import numpy as np

    _, at = np.unique(labels, return_inverse=True)
    return np.bincount(at, weights=scores) / np.bincount(at)


def _mean(strata: Sequence[Stratum]) -> float:
    return sum(stratum.weight * stratum.mean for stratum in strata)


def _share(strata: Sequence[Stratum]) -> Figures:
    """The interval is Wilson's for as many trials as give the weighted mean its variance at one common share (Kish's
    effective sample size); of one stratum, its trials."""
    mean, trials = _mean(strata), 1 / sum(stratum.weight**2 / len(stratum.trials) for stratum in strata)
    low, high = wilson(mean * trials, trials)
    return {"n": sum(stratum.pairs for stratum in strata), "accuracy": mean, "low": low, "high": high}


def _counted(scores: Any) -> Any:
    import numpy as np

    return ~np.isnan(scores)
