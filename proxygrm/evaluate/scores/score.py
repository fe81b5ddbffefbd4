"""Scores of one judge on one benchmark, with everything that determines how they were counted."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import POLICIES, Partition, benchmark, partition
from proxygrm.evaluate.rows.answers import read_answers
from proxygrm.evaluate.rows.foreign import Origin, refuse_foreign
from proxygrm.evaluate.rows.text import rows_text
from proxygrm.evaluate.scores.metrics import Figures, clustered_interval, macro_interval, wilson
from proxygrm.evaluate.scores.notes import Answers, notes_on
from proxygrm.evaluate.scores.pairs import (
    Arranged,
    arrange,
    check_complete,
    first_samples,
    order_figures,
    pair_scores,
    unclear_counts,
    vote_counts,
)

VOTES = (1, 3, 5, 7, 9)


def read(
    bench_name: str, files: Sequence[Path], partial: bool = False, expected: Sequence[str] | None = None
) -> Answers:
    """Read and check answer files. Several files are several samples of one judge.

    expected: the ids that must be present (`expected.ids_of`); default: as many pairs as a revision has. UserError for
    everything that cannot be scored, with row numbers.
    """
    bench = benchmark(bench_name)
    if len({path.resolve() for path in files}) < len(files):
        raise UserError(
            "a file of answers is passed twice; several files are different samples of one judge", code="eval.same-file"
        )
    with _no_garbage_collection():
        judgements, truncated = read_answers(list(files), partial)
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
    return Answers(bench, arranged, revision, size, incomplete or bool(arranged.uneven or truncated), truncated)


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

    Keys: n (pairs in the denominator), overall, macro, categories {NAME: {n, accuracy, low, high}}, acc_plus
    (MM-RLHF); how it was counted: bench, revision, partition, policy, rows, expected, partial, orders, samples,
    judgements; details: unparsed, ties, consistency, position_bias, position, policies {NAME: {n, overall, macro}},
    votes {K: ...}, splits; and notes. `low` and `high` are 95 %: Wilson for shares (the pair is the trial), bootstrap
    for the macro. With `votes`, only the first samples count, for all but the keys `samples` and `votes`.
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
    names = _category_names(arranged, cut)
    counted = first_samples(arranged, votes)
    counts = vote_counts(counted)
    scores = pair_scores(counts, policy, bench)
    if not _counted(scores).any():
        raise UserError(
            f"no verdict is clear, so with the policy {policy!r} nothing is left to count",
            code="eval.nothing-to-count",
            policy=policy,
        )
    low, high = _wilson(scores)
    unparsed, ties, judged = unclear_counts(counted)
    position = order_figures(counted)
    figures: Figures = _summary(scores, names, cut)
    figures["categories"] = _by_name(scores, names, cut.names)
    if bench.acc_plus:
        figures |= _acc_plus(scores, [pair.group for pair in arranged.pairs], names, cut)
    figures |= {
        "overall_interval": [low, high],
        "macro_interval": _macro_interval(scores, names, cut),
        "bench": bench.name,
        "revision": answers.revision.name if answers.revision else None,
        "expected": answers.expected,
        "rows": len(arranged.pairs),
        "partial": answers.partial,
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
            name: _summary(pair_scores(counts, name, bench), names, cut)
            for name in POLICIES
        },
    }  # fmt: skip
    if arranged.samples > 1:
        figures["votes"] = {
            str(k): _summary(pair_scores(vote_counts(first_samples(arranged, k)), policy, bench), names, cut)
            for k in VOTES
            if k <= arranged.samples
        }
    if bench.splits:
        halves = [bench.splits(pair.facts) for pair in arranged.pairs]
        figures["splits"] = _by_name(scores, halves, ())
    figures["notes"] = notes_on(answers, counted, cut, figures)
    return figures


def _category_names(arranged: Arranged, cut: Partition) -> list[str]:
    names = [cut.category(pair.facts) for pair in arranged.pairs]
    without = sorted(pair.judgements[0].row for pair, name in zip(arranged.pairs, names, strict=True) if name is None)
    if without:
        raise UserError(
            f"{rows_text(without)}: the category is unknown, because the row lacks {cut.needs}",
            code="eval.no-category",
            rows=without,
            needs=cut.needs,
        )
    return [name for name in names if name is not None]


def _counted(scores: Any) -> Any:
    import numpy as np

    return ~np.isnan(scores)


def _summary(scores: Any, names: Sequence[str], cut: Partition) -> Figures:
    """n, overall and macro of one way of counting."""
    counted = scores[_counted(scores)]
    groups = [float(group.mean()) for group in _grouped(scores, names).values() if len(group)]
    overall = float(counted.mean()) if len(counted) else None
    if cut.macro_with_all and overall is not None:
        groups.append(overall)
    return {"n": len(counted), "overall": overall, "macro": sum(groups) / len(groups) if groups else None}


def _grouped(scores: Any, names: Sequence[str | None]) -> dict[str, Any]:
    """Category -> scores of its counted pairs."""
    import numpy as np

    labels, counted = np.array([name or "" for name in names]), _counted(scores)
    return {str(name): scores[(labels == name) & counted] for name in np.unique(labels) if name}


def _by_name(scores: Any, names: Sequence[str | None], order: tuple[str, ...]) -> dict[str, Figures]:
    groups = _grouped(scores, names)
    sorted_names = [name for name in order if name in groups] + [name for name in groups if name not in order]
    return {name: _share(groups[name]) for name in sorted_names}


def _share(scores: Any) -> Figures:
    low, high = wilson(float(scores.sum()), len(scores))
    return {"n": len(scores), "accuracy": float(scores.mean()) if len(scores) else None, "low": low, "high": high}


def _wilson(scores: Any) -> tuple[float, float]:
    counted = scores[_counted(scores)]
    return wilson(float(counted.sum()), len(counted))


def _macro_interval(scores: Any, names: Sequence[str], cut: Partition) -> list[float]:
    groups = [group for group in _grouped(scores, names).values() if len(group)]
    rows = sum(len(group) for group in groups)
    extra = 1.0 if cut.macro_with_all else 0.0  # the overall is also a mean of the groups, weighted by their rows
    return list(macro_interval(groups, [1 + extra * len(group) / rows for group in groups]))


def _acc_plus(scores: Any, groups: Sequence[str], names: Sequence[str], cut: Partition) -> Figures:
    """acc+: the share of ids whose counted pairs are all right (in both orders, when there are both)."""
    counted = _counted(scores)
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
