"""Two ways of training compared, each trained several times: the same pairs, judged by every trained model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import json_rows
from proxygrm.evaluate.scores.metrics import Figures, paired_difference
from proxygrm.evaluate.scores.paired import add_holm

FIGURES = {"accuracy_unparsed_wrong": "correct", "proxy_agreement_all": "proxy_agrees", "accuracy": "matches"}
"""By figure (`metrics.summarise`, of policies `evaluate.policy.figures`): the field of a judgement or an answer that is
true where it counts."""
RESAMPLES = 10_000
Shares = dict[Hashable, dict[str, float | None]]


def compare_trainings(runs: Mapping[str, Sequence[Path]]) -> list[Figures]:
    """Every other way of training against the first, for each of FIGURES.

    runs: by name, the judgements of its models (`ordered_pair.judged_row`) or the answers of its policies, one file for
    each seed. Returns rows
    {baseline, run, figure, pairs, difference, low, high, p, p_holm, by_seed}: difference of the shares (run minus
    baseline), where a pair's share is over its orders and all seeds, with the 95 % bootstrap interval over pairs; p of
    the two-sided sign-flip test over pairs, and after Holm's correction over all rows; by_seed: the difference of each
    seed alone, in the files' order, where both have as many. The seeds' own spread is not in interval and p.

    Raises UserError: eval.other-pairs.
    """
    shares = {name: [_shares(file) for file in files] for name, files in runs.items()}
    baseline, *others = runs
    rows: list[dict[str, Any]] = []
    for name in others:
        pairs = _same_pairs(baseline, name, [*shares[baseline], *shares[name]])
        for figure in FIGURES:
            before, after = (_by_seed(shares[each], pairs, figure) for each in (baseline, name))
            if before is None or after is None:
                continue
            a, b = (list(map(fmean, zip(*seeds, strict=True))) for seeds in (before, after))
            difference, low, high = paired_difference(a, b)
            as_many = len(before) == len(after)
            by_seed = [fmean(y) - fmean(x) for x, y in zip(before, after, strict=True)] if as_many else []
            rows.append({
                "baseline": baseline, "run": name, "figure": figure, "pairs": len(pairs), "difference": difference,
                "low": low, "high": high, "p": sign_flip(a, b), "by_seed": by_seed,
            })  # fmt: skip
    add_holm(rows)
    return rows


def sign_flip(a: Sequence[float], b: Sequence[float], resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p of b - a having mean 0: without a difference, each pair's sign is a fair coin's (Fisher 1935).

    By random flips; the observed one counts as one of them, so p is never 0. 1 where no pair differs.
    """
    import numpy as np

    difference = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    flips = np.random.default_rng(seed).integers(0, 2, (resamples, len(difference))) * 2 - 1
    as_far = np.abs(flips @ difference) >= abs(difference.sum()) - 1e-12
    return float((1 + as_far.sum()) / (1 + resamples))


def _shares(file: Path) -> Shares:
    """Of each pair and figure, the share of its judgements that count; None where the rows lack it."""
    judgements: dict[Hashable, list[Mapping[str, Any]]] = defaultdict(list)
    for _, row in json_rows(file):
        judgements[row["id"], row.get("copy", 0)].append(row)

    has_proxy = any(row.get("proxy_asked") for rows in judgements.values() for row in rows)

    def known(row: Mapping[str, Any], field: str) -> bool:
        """What is not: whether a question without a reference answer was answered well, and whether a proxy agrees
        that no judgement of this model was shown to."""
        if field == "proxy_agrees" and not has_proxy:
            return False
        return field in row and not (field == "matches" and row[field] is None)

    return {
        key: {
            figure: fmean(bool(row[field]) for row in rows) if all(known(row, field) for row in rows) else None
            for figure, field in FIGURES.items()
        }
        for key, rows in judgements.items()
    }


def _by_seed(seeds: Sequence[Shares], pairs: Sequence[Hashable], figure: str) -> list[list[float]] | None:
    """A list of the pairs' shares for each seed."""
    found = [[seed[key][figure] for key in pairs] for seed in seeds]
    return None if any(share is None for shares in found for share in shares) else found  # type: ignore[return-value]


def _same_pairs(baseline: str, name: str, seeds: Sequence[Shares]) -> list[Hashable]:
    first, *others = seeds
    if any(seed.keys() != first.keys() for seed in others):
        raise UserError(
            f"{name} and {baseline} judged different pairs, so they cannot be compared pair by pair",
            code="eval.other-pairs",
            runs=[baseline, name],
        )
    return list(first)
