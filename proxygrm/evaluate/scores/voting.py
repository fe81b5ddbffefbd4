"""What more votes bring: the majority of the first K samples, with any of them right as its upper bound."""

from __future__ import annotations

from typing import Any

from proxygrm.evaluate.benchmarks import Benchmark
from proxygrm.evaluate.scores.metrics import Figures
from proxygrm.evaluate.scores.pairs import Arranged, Votes, first_samples, pair_scores, vote_counts
from proxygrm.evaluate.scores.shares import Grouping, summary

CURVE = (1, 3, 5, 7, 9, 11, 13, 15)
"""Odd numbers: an even one adds ties, which count as not right, and so a dent for no other reason."""


def curve(arranged: Arranged, policy: str, bench: Benchmark, grouping: Grouping) -> dict[str, Figures]:
    """{K: n, overall and macro of the majority, and `ballot_figures`} for the K of `CURVE` that there are."""
    figures = {}
    for k in CURVE:
        if k <= arranged.samples:
            votes = vote_counts(first_samples(arranged, k))
            figures[str(k)] = summary(pair_scores(votes, policy, bench), grouping) | ballot_figures(votes)
    return figures


def ballot_figures(votes: Votes) -> dict[str, Any]:
    """A ballot is all votes on one pair in one order (on one pair, where each vote has one order).

    any: the share of pairs with a right vote, the mean of their orders. ballots; tied: as many clear votes for the one
    response as for the other; no_verdict: not one clear vote.
    """
    import numpy as np

    right, wrong, unparsed, ties, _ = votes
    cast = right + wrong + unparsed + ties > 0
    orders = cast.sum(axis=1)
    some_right = ((right > 0) & cast).sum(axis=1)
    counted = orders > 0
    return {
        "any": float(np.mean(some_right[counted] / orders[counted])) if counted.any() else None,
        "ballots": int(cast.sum()),
        "tied": int((cast & (right == wrong) & (right > 0)).sum()),
        "no_verdict": int((cast & (right + wrong == 0)).sum()),
    }
