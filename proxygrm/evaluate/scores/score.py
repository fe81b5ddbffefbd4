"""Scores of one judge on one benchmark, with everything that determines how they were counted."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import POLICIES, Partition, benchmark, partition
from proxygrm.evaluate.benchmarks.anchors import published_partitions
from proxygrm.evaluate.layouts import KnownPairs, read_foreign
from proxygrm.evaluate.rows.answers import read_answers
from proxygrm.evaluate.rows.foreign import Origin, refuse_foreign
from proxygrm.evaluate.scores import voting
from proxygrm.evaluate.scores.metrics import Figures, clustered_interval, wilson
from proxygrm.evaluate.scores.notes import Answers, notes_on
from proxygrm.evaluate.scores.pairs import (
    arrange,
    check_complete,
    first_samples,
    order_figures,
    pair_scores,
    unclear_counts,
    vote_counts,
)
from proxygrm.evaluate.scores.shares import (
    by_category,
    by_name,
    grouping_of,
    interval_of_macro,
    overall_interval,
    summary,
)


def read(
    bench_name: str,
    files: Sequence[Path],
    partial: bool = False,
    expected: Sequence[str] | None = None,
    layout: str = "",
    pairs: Path | None = None,
) -> Answers:
    """Read and check answer files. Several files are several samples of one judge.

    expected: the ids that must be present (`expected.ids_of`); default: as many pairs as a revision has. layout: of
    another suite's files (`layouts.LAYOUTS`), recognised where it is not given; pairs: where their rows are looked up.
    UserError for everything that cannot be scored, with row numbers.
    """
    bench = benchmark(bench_name)
    if len({path.resolve() for path in files}) < len(files):
        raise UserError(
            "a file of answers is passed twice; several files are different samples of one judge", code="eval.same-file"
        )
    with _no_garbage_collection():
        known = KnownPairs(pairs)
        foreign = {path: read_foreign(path, bench, n, partial, known, layout) for n, path in enumerate(files)}
        own = [None if foreign[path] else path for path in files]
        judgements, truncated = read_answers(own, partial)
        for found in filter(None, foreign.values()):
            judgements += found[1].judgements
        refuse_foreign((Origin(j.row, j.source, j.facts) for j in judgements), bench)
        arranged = arrange(judgements, partial)
    revision = check_complete(arranged, bench, partial, expected)
    if expected is not None:
        size: int | None = len(expected)
    elif revision is not None:
        size = revision.rows
    else:
        size = max((r.rows for r in bench.revisions), default=None)
    incomplete = size is not None and len(arranged.pairs) < size
    readings = {path: found for path, found in foreign.items() if found}
    return Answers(
        bench,
        arranged,
        revision,
        size,
        incomplete or bool(arranged.uneven or truncated or any(r.unusable for _, r in readings.values())),
        truncated,
        tuple(dict.fromkeys(of.name for of, _ in readings.values())),
        tuple(dict.fromkeys(note for _, reading in readings.values() for note in reading.notes)),
        next((path for path, (_, reading) in readings.items() if reading.rowless), None),
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Rows are many tuples without cycles; scanning them for garbage takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def score(answers: Answers, partition_name: str = "official", policy: str = "wrong", votes: int = 0) -> Figures:
    """All figures of `answers`; shares are between 0 and 1, None where there is nothing to count.

    Keys: n (pairs in the denominator), overall, macro, categories {NAME: {n, accuracy, low, high}}, acc_plus (MM-RLHF);
    headline: which of overall and macro papers print; how it was counted: bench, revision, partition, policy, rows,
    expected, partial, layouts, orders, samples, judgements; details: unparsed, ties, consistency, position_bias,
    position, policies {NAME: {n, overall, macro}}, votes {K: ...}, ballots (`voting`), splits, views {PARTITION: {NAME:
    ...}}, as_published {PARTITION: {n, overall, macro, categories}} for the other partitions that published rows were
    counted by; and notes. `low` and `high` are 95 %: Wilson for shares (the trial is the pair, or what
    `Benchmark.trial` says), bootstrap for the macro. With `votes`, only the first samples count, for all but the keys
    `samples` and `votes`.
    """
    bench, arranged = answers.bench, answers.arranged
    cut = partition(bench, partition_name)
    if policy not in POLICIES:
        raise UserError(
            f"unknown policy {policy!r}; known: {', '.join(POLICIES)}",
            code="eval.unknown-policy",
            name=policy,
            known=list(POLICIES),
        )
    if votes > arranged.samples:
        raise UserError(
            f"--votes {votes}, but each pair has {arranged.samples} judgements to vote",
            code="eval.too-many-votes",
            votes=votes,
            samples=arranged.samples,
        )
    grouping = grouping_of(arranged, bench, cut)
    counted = first_samples(arranged, votes)
    counts = vote_counts(counted)
    scores = pair_scores(counts, policy, bench)
    if all(map(isnan, scores)):
        raise UserError(
            f"no verdict is clear, so with the policy {policy!r} nothing is left to count",
            code="eval.nothing-to-count",
            policy=policy,
        )
    unparsed, ties, judged = unclear_counts(counted)
    position = order_figures(counted)
    figures: Figures = summary(scores, grouping)
    figures["categories"] = by_category(scores, grouping)
    if bench.acc_plus:
        figures |= _acc_plus(scores, [pair.group for pair in arranged.pairs], grouping.names, cut)
    figures |= {
        "overall_interval": list(overall_interval(scores, grouping)),
        "macro_interval": interval_of_macro(scores, grouping),
        "headline": bench.headline,
        "bench": bench.name,
        "revision": answers.revision.name if answers.revision else None,
        "expected": answers.expected,
        "rows": len(arranged.pairs),
        "partial": answers.partial,
        "layouts": list(answers.layouts),
        "partition": partition_name,
        "policy": policy,
        "orders": 2 if arranged.both_orders else 1,
        "samples": arranged.samples,
        "votes_counted": votes or arranged.samples,
        "judgements": judged,
        "unparsed": unparsed,
        "unparsed_share": unparsed / judged,
        "ties": ties,
        "ties_share": ties / judged,
        "consistency": position["consistency"],
        "position_bias": position["bias"],
        "position": position,
        "policies": {
            name: summary(pair_scores(counts, name, bench), grouping)
            for name in POLICIES
        },
    }  # fmt: skip
    if arranged.samples > 1:
        figures["votes"] = voting.curve(arranged, policy, bench, grouping)
        figures["ballots"] = voting.ballot_figures(counts)
    if bench.splits:
        halves = [bench.splits(pair.facts) for pair in arranged.pairs]
        figures["splits"] = by_name(scores, halves)
    if views := [name for name in bench.views if name != partition_name]:
        figures["views"] = {
            name: by_category(scores, grouping_of(arranged, bench, bench.partitions[name])) for name in views
        }
    if cuts := [name for name in published_partitions(bench.name) if name != partition_name]:
        groupings = {name: grouping_of(arranged, bench, bench.partitions[name]) for name in cuts}
        figures["as_published"] = {
            name: {**summary(scores, by), "categories": by_category(scores, by)} for name, by in groupings.items()
        }
    figures["notes"] = notes_on(answers, counted, cut, figures)
    return figures


def _acc_plus(scores: Any, groups: Sequence[str], names: Sequence[str], cut: Partition) -> Figures:
    """acc+: the share of ids whose counted pairs are all right (in both orders, when there are both)."""
    import numpy as np

    counted = ~np.isnan(scores)
    right: dict[str, bool] = {}
    category: dict[str, str] = {}
    for score, group, name, counts in zip(scores, groups, names, counted, strict=True):
        if counts:
            right[group] = right.get(group, True) and score == 1
            category.setdefault(group, name)
    low, high = wilson(sum(right.values()), len(right))
    by_category: dict[str, list[bool]] = defaultdict(list)
    for group, all_right in right.items():
        by_category[category[group]].append(all_right)
    order = {name: index for index, name in enumerate(cut.names)}
    return {
        "acc_plus": sum(right.values()) / len(right),
        "acc_plus_interval": [low, high],
        "acc_plus_ids": len(right),
        "acc_plus_categories": {
            name: {"ids": len(by_category[name]), "acc_plus": sum(by_category[name]) / len(by_category[name])}
            for name in sorted(by_category, key=lambda name: order.get(name, len(order)))
        },
        "overall_interval_by_id": list(
            clustered_interval(scores[counted], [g for g, counts in zip(groups, counted, strict=True) if counts])
        ),
    }


def category_sizes(answers: Answers) -> dict[str, dict[str, int]]:
    """Pairs in each category, for each partition that these rows allow."""
    sizes: dict[str, dict[str, int]] = {}
    for partition_name, cut in answers.bench.partitions.items():
        names = [cut.category(pair.facts) for pair in answers.arranged.pairs]
        if None not in names:
            sizes[partition_name] = dict(Counter(str(category) for category in names))
    return sizes
