"""Runs on the same pairs against one another, and beside what others have published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks.anchors import ANCHORS, right_of
from proxygrm.evaluate.rows.answers import named
from proxygrm.evaluate.scores.metrics import mcnemar_exact, paired_difference
from proxygrm.evaluate.scores.pairs import pair_scores, vote_counts
from proxygrm.evaluate.scores.score import Answers, score

Figures = dict[str, Any]
Scores = dict[Any, float]  # pair -> 0 to 1, NaN where the policy leaves it out
ORDERS_DIFFER = "one run was shown both orders, the other one: no McNemar, read the interval"


def compare(
    runs: Mapping[str, Answers], partition: str = "official", policy: str = "wrong", common: bool = False
) -> Figures:
    """The first run against each of the others, pair by pair.

    runs: {name: answers}, at least two, of one benchmark. A pair that the policy leaves out for one of two runs is
    left out for both. common: where runs judged different pairs, compare on those both have; else UserError.
    Returns {baseline, runs {name: {n, overall, macro}}, against [...]}; each of `against` has the difference (other
    minus baseline) with its 95 % bootstrap interval, McNemar's counts and exact p, and p after Holm's correction for
    the number of comparisons. McNemar takes a pair as right when it is right in every order shown, so where one run
    was shown one order and the other both (`orders_differ`), its counts and p are None: right twice is harder.
    """
    if len(runs) < 2:
        raise UserError("a comparison needs two runs or more")
    baseline, *others = runs
    against = paired(runs, [(baseline, name) for name in others], policy, common)
    kept_keys = ("n", "overall", "macro", "overall_interval", "expected", "rows", "partial", "orders", "acc_plus")
    figures = {name: score(answers, partition, policy) for name, answers in runs.items()}
    return {
        "bench": next(iter(runs.values())).bench.name,
        "partition": partition,
        "policy": policy,
        "baseline": baseline,
        "runs": {name: {key: f[key] for key in kept_keys if key in f} for name, f in figures.items()},
        "against": against,
        "anchors": beside_anchors(next(iter(runs.values())), policy),
    }


def paired(
    runs: Mapping[str, Answers], which: Sequence[tuple[str, str]], policy: str = "wrong", common: bool = False
) -> list[Figures]:
    """A row for each (baseline, run) of `which`, as those of `against` in `compare`; Holm's correction is for all."""
    scores = {name: _by_pair(answers, policy) for name, answers in runs.items()}
    against: list[Figures] = []
    for baseline, name in which:
        ours, theirs, shared = _aligned(baseline, scores[baseline], name, scores[name], common)
        kept = [key for key in shared if not (isnan(ours[key]) or isnan(theirs[key]))]
        if not kept:
            raise UserError(f"no pair counts for both {baseline} and {name} with the policy {policy!r}")
        a, b = [ours[key] for key in kept], [theirs[key] for key in kept]
        difference, low, high = paired_difference(a, b)
        differ = runs[name].arranged.both_orders != runs[baseline].arranged.both_orders
        only_a = None if differ else sum(x == 1 > y for x, y in zip(a, b, strict=True))
        only_b = None if differ else sum(y == 1 > x for x, y in zip(a, b, strict=True))
        against.append({
            "run": name, "baseline": baseline, "pairs": len(kept), "left_out": len(shared) - len(kept),
            "not_shared": len(ours) + len(theirs) - 2 * len(shared),
            "difference": difference, "low": low, "high": high,
            "orders_differ": differ, "only_baseline": only_a, "only_run": only_b, "p_holm": None,
            "p": None if only_a is None or only_b is None else mcnemar_exact(only_a, only_b),
        })  # fmt: skip
    tested = [row for row in against if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
    return against


def mcnemar_cells(row: Mapping[str, Any]) -> list[str]:
    """Won, lost, p and p after Holm of one of `against`."""
    if row["orders_differ"]:
        return ["-"] * 4
    return [f"{row['only_run']:,}", f"{row['only_baseline']:,}", f"{row['p']:.2g}", f"{row['p_holm']:.2g}"]


def holm(values: Sequence[float]) -> list[float]:
    """P values after Holm's step-down correction (Scand. J. Statist. 1979, 6:65), in the order given."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    corrected, highest = [0.0] * len(values), 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, values[at] * (len(values) - rank)))
        corrected[at] = highest
    return corrected


def beside_anchors(answers: Answers, policy: str) -> list[Figures]:
    """Published numbers on this benchmark, each with `comparable` (yes, nearly, no) and why.

    An anchor is only comparable to a complete file of the number of rows it was counted over, which its own decimals
    betray: 75.22 % is no count of 1,250 but 938 of 1,247. None is comparable without reserve, because they were
    counted in one random order.
    """
    bench, rows = answers.bench, len(answers.arranged.pairs)
    reserves = []
    if answers.arranged.both_orders:
        reserves.append("yours: both orders")
    if policy != "wrong":
        reserves.append(f"yours: policy {policy}")
    found = []
    for anchor in ANCHORS:
        value = anchor.values.get(bench.name)
        if value is None:
            continue
        fits = [r for r in bench.revisions if right_of(value, r.rows) is not None]
        why = [f"theirs: {anchor.counted}", *reserves]
        if answers.partial:
            comparable, why = "no", [f"your file is partial: {rows:,} of {answers.expected:,} pairs", *why]
        elif answers.revision not in bench.revisions:
            comparable, why = "no", [f"yours are {rows:,} pairs of your own choice", *why]
        elif not fits:
            comparable, why = "no", [f"{value} is no count of {bench.sizes} rows: a macro, a mean, or other rows", *why]
        elif answers.revision not in fits:
            comparable, why = "no", [f"{value} is a count of {_counts(value, fits)}, yours of {rows:,} rows", *why]
        else:
            comparable, why = "nearly", [f"{value} is {_counts(value, fits)}", *why]
        found.append({"name": anchor.name, "per_cent": value, "comparable": comparable, "why": "; ".join(why)})
    return found


def _counts(value: str, revisions: Sequence[Any]) -> str:
    return " or ".join(f"{right_of(value, r.rows):,.0f}/{r.rows:,}" for r in revisions)


def _by_pair(answers: Answers, policy: str) -> Scores:
    scores = pair_scores(vote_counts(answers.arranged), policy, answers.bench)
    return {pair.key: float(s) for pair, s in zip(answers.arranged.pairs, scores, strict=True)}


def _aligned(name_a: str, a: Scores, name_b: str, b: Scores, common: bool) -> tuple[Scores, Scores, list[Any]]:
    """Both runs' scores and the keys they share, in the order of `a`.

    A pair is its id and its texts; when the rows of one run carry no texts, its id alone, which then must not repeat.
    """
    if _has_texts(a) != _has_texts(b):
        a, b = _by_id(name_a, a), _by_id(name_b, b)
    shared = [key for key in a if key in b]
    if shared and (common or len(shared) == len(a) == len(b)):
        return a, b, shared
    parts = [
        f"{len(lack):,} only in {name} ({named(lack)})"
        for name, lack in (
            (name_a, [_id(key) for key in a if key not in b]),
            (name_b, [_id(key) for key in b if key not in a]),
        )
        if lack
    ]
    raise UserError(
        f"{name_a} and {name_b} did not judge the same pairs: {len(shared):,} shared, {', '.join(parts)}; judge the "
        "rest, or compare on the shared ones with --common"
    )


def _id(key: Any) -> str:
    return key if isinstance(key, str) else str(key[0][0])


def _has_texts(scores: Scores) -> bool:
    return any(key[0][1] for key in scores)


def _by_id(name: str, scores: Scores) -> Scores:
    found = {_id(key): score for key, score in scores.items()}
    if len(found) < len(scores):
        raise UserError(
            f"ids repeat in {name}, and only one of the two runs has prompt, chosen and rejected in its rows, so "
            "pairs cannot be matched; give both runs with their texts"
        )
    return found
