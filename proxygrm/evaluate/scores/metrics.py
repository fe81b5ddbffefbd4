"""Figures from judgement rows. Pure: rows in, numbers out; every denominator is stated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from math import sqrt
from typing import Any

from proxygrm.evaluate.rows.row_file import Row

Figures = dict[str, Any]

Z_95 = 1.959964


def wilson(right: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927, JASA 22:209; recommended by Brown, Cai & DasGupta 2001).

    right: successes, 0..n; n: independent trials; both may be fractional. (0, 1) when n is 0: nothing is known.
    """
    if n <= 0:
        return 0.0, 1.0
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def summarise(rows: Sequence[Row]) -> Row:
    """Figures of one model from its rows (`ordered_pair.judged_row`); a share with nothing to count is None.

    accuracy                  right verdicts / verdicts (without unparsed and ties, as in VL-RewardBench's script)
    accuracy_unparsed_wrong   right verdicts / judgements
    accuracy_low, _high       95 % Wilson interval of `accuracy`; the pair is the trial, because its two orders
                              are not independent, so the interval is conservative
    both_orders_accuracy      pairs right in both orders / pairs judged in both (an unparsed order is not right)
    order_consistency         pairs whose two verdicts name the same response / pairs with two verdicts
    says_1                    verdicts for response 1 / verdicts: position bias; .5 is none, as both orders are shown
    format_rate               well-formed critiques / judgements
    proxy_agreement           proxy verdicts, by the rubric, that equal the label / proxy verdicts
    proxy_agreement_all       the same / judgements: no rubric and no proxy verdict count as disagreement
    proxy_same_verdict        proxy and critique have the same verdict / judgements where both have one
    names_winner              rubrics that name the better response (the proxy's agreement then means nothing)
    macro_accuracy            mean of the categories' accuracies, when rows have categories
    """
    figures = _shares(rows)
    verdicts = _clear(rows)
    proxied = [r for r in rows if r["proxy_verdict"] is not None]
    figures |= {
        "order_consistency": _order_consistency(_by_ordered(rows)),
        "says_1": share_of(sum(r["verdict"] == 1 for r in verdicts), len(verdicts)),
        "proxy_same_verdict": share_of(
            sum(r["proxy_verdict"] == r["verdict"] for r in _clear(proxied)),
            len(_clear(proxied)),
        ),
        "no_rubric": sum(r["rubric"] is None for r in rows),
        "names_winner": sum(bool(r["names_winner"]) for r in rows),
        "proxy_asked": sum(bool(r["proxy_asked"]) for r in rows),
        "proxy_unparsed": sum(bool(r["proxy_asked"]) and r["proxy_verdict"] is None for r in rows),
        "refused": sum(r["refused"] is not None for r in rows),
        "truncated": sum(bool(r["truncated"]) for r in rows),
        "image_missing": sum(bool(r["image_missing"]) for r in rows),
        "mean_tokens": share_of(sum(r["tokens"] for r in rows), len(rows)),
    }
    for name in ("source", "category"):
        groups = defaultdict(list)
        for row in rows:
            if row.get(name):
                groups[row[name]].append(row)
        if groups:
            figures[f"by_{name}"] = {key: _shares(group) for key, group in sorted(groups.items())}
    if categories := figures.get("by_category"):
        shares = [c["accuracy"] for c in categories.values() if c["accuracy"] is not None]
        figures["macro_accuracy"] = share_of(sum(shares), len(shares))
    return figures


def _shares(rows: Sequence[Row]) -> Row:
    """The figures that are also given for each source and category."""
    verdicts = _clear(rows)
    right = sum(bool(r["correct"]) for r in verdicts)
    proxied = [r for r in rows if r["proxy_verdict"] is not None]
    agree = sum(bool(r["proxy_agrees"]) for r in proxied)
    low, high = _interval(right, verdicts)
    proxy_low, proxy_high = _interval(agree, proxied)
    both_orders = [orders for orders in _by_ordered(rows).values() if len(orders) == 2]
    return {
        "pairs": len(_by_pair(rows)),
        "judgements": len(rows),
        "unparsed": sum(r["verdict"] is None for r in rows),
        "ties": sum(r["verdict"] == "tie" for r in rows),
        "accuracy": share_of(right, len(verdicts)),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_unparsed_wrong": share_of(right, len(rows)),
        "both_orders_accuracy": share_of(sum(all(r["correct"] for r in o) for o in both_orders), len(both_orders)),
        "format_rate": share_of(sum(bool(r["well_formed"]) for r in rows), len(rows)),
        "proxy_agreement": share_of(agree, len(proxied)),
        "proxy_agreement_low": proxy_low,
        "proxy_agreement_high": proxy_high,
        "proxy_agreement_all": share_of(agree, len(rows)) if any(r["proxy_asked"] for r in rows) else None,
    }


def _interval(right: int, rows: Sequence[Row]) -> tuple[float | None, float | None]:
    if not rows:
        return None, None
    n = len(_by_pair(rows))
    return wilson(right / len(rows) * n, n)


def _order_consistency(pairs: dict[Hashable, list[Row]]) -> float | None:
    both = [o for o in pairs.values() if len(_clear(o)) == 2]
    # Right in both or wrong in both: the verdicts name the same response.
    return share_of(sum(o[0]["correct"] == o[1]["correct"] for o in both), len(both))


def _by_pair(rows: Sequence[Row]) -> dict[Hashable, list[Row]]:
    pairs: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        pairs[row["id"], row["copy"]].append(row)
    return pairs


def _by_ordered(rows: Sequence[Row]) -> dict[Hashable, list[Row]]:
    """The orders of a pair, each vote separately."""
    by_vote: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        by_vote[row["id"], row["copy"], row.get("sample", 0)].append(row)
    return by_vote


def _clear(rows: Sequence[Row]) -> list[Row]:
    """Rows with a verdict for one of the responses: neither unparsed nor a tie."""
    return [row for row in rows if row["verdict"] in (1, 2)]


def share_of(part: float, total: int) -> float | None:
    """None when there is nothing to count."""
    return part / total if total else None


RESAMPLES = 10_000


def macro_interval(
    groups: Sequence[Any], weights: Sequence[float] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of the groups' means (Efron & Tibshirani 1993, chapter 13).

    groups: one array of scores per category, none empty; weights: of the groups, instead of equal ones. Rows are
    drawn within their category, whose sizes are part of the benchmark's design. Depends only on the
    counts of each score, not on the order of the rows.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    means = [_resampled_means(np.asarray(group), resamples, rng) for group in groups]
    return middle_95(np.average(means, axis=0, weights=weights))


def clustered_interval(
    scores: Any, clusters: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """As above for the mean of `scores` whose rows are clustered (by id): complete clusters are drawn."""
    import numpy as np

    sums: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for score, cluster in zip(scores, clusters, strict=True):
        sums[cluster][0] += float(score)
        sums[cluster][1] += 1
    kinds, counts = np.unique(np.array(list(sums.values())), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(sums), counts / counts.sum(), size=resamples) @ kinds
    return middle_95(drawn[:, 0] / drawn[:, 1])


def paired_difference(a: Any, b: Any, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float]:
    """(mean of b - a, low, high): 95 % percentile bootstrap over pairs, which draws both scores of a pair together."""
    import numpy as np

    difference = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    drawn = _resampled_means(difference, resamples, np.random.default_rng(seed))
    return float(difference.mean()), *middle_95(drawn)


def summed_difference(
    parts: Any, groups: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """(sum of the parts, low, high): as above for a weighted difference, to which each trial adds its part; trials are
    drawn within their group."""
    import numpy as np

    parts, rng, of_group = np.asarray(parts, dtype=float), np.random.default_rng(seed), defaultdict(list)
    for part, group in zip(parts.round(15), groups, strict=True):  # rounded, so that equal ones are counted together
        of_group[group].append(part)
    drawn = sum(len(some) * _resampled_means(some, resamples, rng) for some in of_group.values())
    return float(parts.sum()), *middle_95(drawn)


def _resampled_means(scores: Any, resamples: int, rng: Any) -> Any:
    """Means of `resamples` draws with replacement, by the counts of the distinct scores: exact and fast."""
    import numpy as np

    values, counts = np.unique(scores, return_counts=True)
    return rng.multinomial(len(scores), counts / len(scores), size=resamples) @ values / len(scores)


def middle_95(values: Any) -> tuple[float, float]:
    import numpy as np

    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))
