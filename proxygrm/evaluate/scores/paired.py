"""Two results on the same pairs: difference, interval, McNemar's test, and Holm's correction over several of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, lgamma, log
from typing import Any

from proxygrm.evaluate.scores.metrics import Figures, paired_difference


def paired_figures(before: Sequence[float], after: Sequence[float]) -> Figures:
    """{difference, low, high, won, lost, p} of `after` minus `before`, one score between 0 and 1 per pair.

    difference: mean over pairs, with a 95 % paired bootstrap interval. won, lost: pairs that are fully right (score 1)
    only after, only before; p: McNemar's exact test on these.
    """
    difference, low, high = paired_difference(before, after)
    won = sum(b == 1 > a for a, b in zip(before, after, strict=True))
    lost = sum(a == 1 > b for a, b in zip(before, after, strict=True))
    return {
        "difference": difference,
        "low": low,
        "high": high,
        "won": won,
        "lost": lost,
        "p": mcnemar_exact(lost, won),
    }


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p of McNemar's test: without a difference, each discordant pair is a fair coin flip.

    only_a, only_b: pairs that only the one, only the other has right. 1 when there is none.
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    log_half = n * log(0.5)
    tail = fsum(exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + log_half) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


def add_holm(rows: Sequence[dict[str, Any]]) -> None:
    """Add `p_holm`, Holm's correction over all rows that have a `p`; None for the others."""
    tested = [row for row in rows if row["p"] is not None]
    for row in rows:
        row["p_holm"] = None
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p


def holm(values: Sequence[float]) -> list[float]:
    """P values after Holm's step-down correction (Scand. J. Statist. 1979, 6:65), in the same order."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    corrected, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, values[index] * (len(values) - rank)))
        corrected[index] = highest
    return corrected
