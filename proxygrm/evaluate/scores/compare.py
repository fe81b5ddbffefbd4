"""Runs on the same pairs compared with each other, and with published results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import partition as partition_of
from proxygrm.evaluate.benchmarks.anchors import ANCHORS, comparability
from proxygrm.evaluate.rows.text import ids_text
from proxygrm.evaluate.scores.metrics import Figures, summed_difference
from proxygrm.evaluate.scores.notes import Answers
from proxygrm.evaluate.scores.paired import add_holm, paired_figures
from proxygrm.evaluate.scores.pairs import pair_scores, vote_counts
from proxygrm.evaluate.scores.score import score
from proxygrm.evaluate.scores.shares import grouping_of, macro_weights

Scores = dict[Any, float]  # pair -> 0 to 1, NaN where the policy leaves it out
ORDERS_DIFFER = "one run judged both orders, the other a single one: no McNemar test, use the interval"


def compare(
    runs: Mapping[str, Answers], partition: str = "official", policy: str = "wrong", common: bool = False
) -> Figures:
    """The first run against each of the others, pair by pair.

    runs: {name: answers}, at least two, of one benchmark. A pair that the policy leaves out for one of two runs is
    left out for both. common: where runs judged different pairs, compare on those both have; else UserError.
    Returns {baseline, runs {name: {n, overall, macro}}, against [...]}; each of `against` has the difference (other
    minus baseline) of the `figure` that the benchmark's papers print (overall, or macro by the partition) with its 95 %
    bootstrap interval, McNemar's counts and exact p, and p after Holm's correction for the number of comparisons. A
    pair is a trial here, and where several pairs share responses (RM-Bench) all of those are one. For McNemar's test a
    pair is right when it is right in every order judged. So its counts and p are None where one run judged one order
    and the other both (`orders_differ`): right twice is harder.
    """
    if len(runs) < 2:
        raise UserError("a comparison needs two runs or more", code="eval.one-run", count=len(runs))
    baseline, *others = runs
    against = compare_pairs(runs, [(baseline, name) for name in others], policy, common, partition)
    copied_keys = ("n", "overall", "macro", "overall_interval", "expected", "rows", "partial", "orders", "acc_plus")
    figures = {name: score(answers, partition, policy) for name, answers in runs.items()}
    return {
        "bench": next(iter(runs.values())).bench.name,
        "partition": partition,
        "policy": policy,
        "baseline": baseline,
        "runs": {name: {key: f[key] for key in copied_keys if key in f} for name, f in figures.items()},
        "against": against,
        "anchors": beside_anchors(next(iter(runs.values())), policy),
    }


def compare_pairs(
    runs: Mapping[str, Answers],
    comparisons: Sequence[tuple[str, str]],
    policy: str = "wrong",
    common: bool = False,
    partition: str = "official",
) -> list[Figures]:
    """A row for each (baseline, run), as in `against` of `compare`; Holm's correction is over all of them."""
    for name, answers in runs.items():
        if answers.rowless:
            raise UserError(
                f"{name} is made from the shares in {answers.rowless}: which rows are right is not known, so it cannot "
                "be compared pair by pair; pass the file of its scores",
                code="eval.no-rows",
                run=name,
                path=answers.rowless,
            )
    scores = {name: _by_pair(answers, policy) for name, answers in runs.items()}
    against: list[Figures] = []
    for baseline, name in comparisons:
        baseline_scores, run_scores, shared = _aligned(baseline, scores[baseline], name, scores[name], common)
        counted = [key for key in shared if not (isnan(baseline_scores[key]) or isnan(run_scores[key]))]
        if not counted:
            raise UserError(
                f"no pair counts for both {baseline} and {name} with the policy {policy!r}",
                code="eval.nothing-to-count",
                policy=policy,
                runs=[baseline, name],
            )
        before, after = ([of[key] for key in counted] for of in (baseline_scores, run_scores))
        # The scores of a run are in the order of its pairs.
        position = {key: number for number, key in enumerate(baseline_scores)}
        figures = _figures(runs[baseline], [position[key] for key in counted], before, after, partition)
        orders_differ = runs[name].arranged.both_orders != runs[baseline].arranged.both_orders
        against.append({
            "run": name, "baseline": baseline, "pairs": figures["trials"], "left_out": len(shared) - len(counted),
            "not_shared": len(baseline_scores) + len(run_scores) - 2 * len(shared),
            **{key: figures[key] for key in ("figure", "difference", "low", "high")},
            "orders_differ": orders_differ,
            "only_baseline": None if orders_differ else figures["lost"],
            "only_run": None if orders_differ else figures["won"],
            "p_holm": None,
            "p": None if orders_differ else figures["p"],
        })  # fmt: skip
    add_holm(against)
    return against


def mcnemar_cells(row: Mapping[str, Any]) -> list[str]:
    """Won, lost, p and Holm-corrected p of one row of `against`, as text."""
    if row["orders_differ"]:
        return ["-"] * 4
    return [f"{row['only_run']:,}", f"{row['only_baseline']:,}", f"{row['p']:.2g}", f"{row['p_holm']:.2g}"]


def beside_anchors(answers: Answers, policy: str) -> list[Figures]:
    """Published numbers on this benchmark, each with `comparable` (yes, nearly, no) and why (`comparability`)."""
    bench, rows = answers.bench, len(answers.arranged.pairs)
    differences = []
    if answers.arranged.both_orders:
        differences.append("yours: both orders")
    if policy != "wrong":
        differences.append(f"yours: policy {policy}")
    revision = answers.revision if answers.revision in bench.revisions else None
    missing_from = (answers.expected or rows) if answers.partial else None
    anchors = []
    for anchor in ANCHORS:
        if bench.name in anchor.values:
            comparable, reason = comparability(anchor, bench, rows, revision, missing_from)
            why = "; ".join([reason, f"theirs: {anchor.counted}", *differences])
            per_cent = anchor.values[bench.name]
            anchors.append({"name": anchor.name, "per_cent": per_cent, "comparable": comparable, "why": why})
    return anchors


def _figures(
    answers: Answers, rows: Sequence[int], before: Sequence[float], after: Sequence[float], partition_name: str
) -> Figures:
    """Of the counted pairs, which are at `rows` of these answers: trials, figure and `paired_figures`."""
    import numpy as np

    bench, pairs = answers.bench, [answers.arranged.pairs[row] for row in rows]
    trials = [bench.trial(pair.facts) if bench.trial else number for number, pair in enumerate(pairs)]
    _, trial_of = np.unique(trials, return_inverse=True)
    pairs_of = np.bincount(trial_of)
    means = [np.bincount(trial_of, weights=scores) / pairs_of for scores in (before, after)]
    figures = {"trials": len(pairs_of), "figure": bench.headline} | paired_figures(*means)
    if bench.headline == "overall":
        return figures
    grouping = grouping_of(replace(answers.arranged, pairs=pairs), bench, partition_of(bench, partition_name))
    difference = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    parts = np.bincount(trial_of, weights=macro_weights(difference, grouping) * difference)
    # What a trial is part of, which is several strata where a partition divides its pairs, is drawn together.
    strata = [set[tuple[str, str]]() for _ in parts]
    for trial, name, stratum in zip(trial_of, grouping.names, grouping.strata, strict=True):
        strata[trial].add((name, stratum))
    interval = summed_difference(parts, [frozenset(each) for each in strata])
    return figures | dict(zip(("difference", "low", "high"), interval, strict=True))


def _by_pair(answers: Answers, policy: str) -> Scores:
    scores = pair_scores(vote_counts(answers.arranged), policy, answers.bench)
    return {pair.key: float(s) for pair, s in zip(answers.arranged.pairs, scores, strict=True)}


def _aligned(name_a: str, a: Scores, name_b: str, b: Scores, common: bool) -> tuple[Scores, Scores, list[Any]]:
    """Both runs' scores and the keys they share, in the order of `a`.

    A pair is identified by its id and texts; when the rows of one run have no texts, by its id, which then must not
    repeat.
    """
    if _has_texts(a) != _has_texts(b):
        a, b = _by_id(name_a, a), _by_id(name_b, b)
    shared = [key for key in a if key in b]
    if shared and (common or len(shared) == len(a) == len(b)):
        return a, b, shared
    parts = [
        f"{len(ids):,} only in {name} ({ids_text(ids)})"
        for name, ids in (
            (name_a, [_id(key) for key in a if key not in b]),
            (name_b, [_id(key) for key in b if key not in a]),
        )
        if ids
    ]
    raise UserError(
        f"{name_a} and {name_b} did not judge the same pairs: {len(shared):,} shared, {', '.join(parts)}; judge the "
        "rest, or compare on the shared ones with --common",
        code="eval.different-pairs",
        runs=[name_a, name_b],
        shared=len(shared),
    )


def _id(key: Any) -> str:
    return key if isinstance(key, str) else str(key[0][0])


def _has_texts(scores: Scores) -> bool:
    return any(not isinstance(key, str) and key[0][1] for key in scores)


def _by_id(name: str, scores: Scores) -> Scores:
    by_id = {_id(key): score for key, score in scores.items()}
    if len(by_id) < len(scores):
        raise UserError(
            f"ids repeat in {name}, and only one of the two runs has prompt, chosen and rejected in its rows, so "
            "pairs cannot be matched; pass both runs with their texts",
            code="eval.repeated-ids",
            run=name,
        )
    return by_id
