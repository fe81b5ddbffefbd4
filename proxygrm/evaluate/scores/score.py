"""Scores of one judge on one benchmark, with everything that decides how they were counted."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import (
    BENCHMARKS,
    POLICIES,
    Benchmark,
    Facts,
    Partition,
    Revision,
    benchmark,
    partition,
)
from proxygrm.evaluate.rows.answers import Torn, read_answers, rows_text
from proxygrm.evaluate.scores.metrics import clustered_interval, macro_interval, wilson
from proxygrm.evaluate.scores.pairs import (
    Arranged,
    arrange,
    check_benchmark,
    check_whole,
    first_samples,
    order_figures,
    pair_scores,
    unclear_counts,
    vote_counts,
)

VOTES = (1, 3, 5, 7, 9)
Figures = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """The answers of one judge, read, arranged and found whole (or partial, and said so)."""

    bench: Benchmark
    arranged: Arranged
    revision: Revision | None
    expected: int | None  # pairs there should be
    partial: bool  # some are missing
    torn: list[Torn]


def read(
    bench_name: str, files: Sequence[Path], partial: bool = False, expected: Sequence[str] | None = None
) -> Answers:
    """Read and check answer files. Several files are several samples of one judge.

    expected: the ids that must be there (`score_expected.ids_of`); default: as many pairs as a revision has.
    Raises UserError for everything that cannot be scored, with row numbers.
    """
    bench = benchmark(bench_name)
    if len({path.resolve() for path in files}) < len(files):
        raise UserError("a file of answers is given twice; several files are different samples of one judge")
    with _collector_at_rest():
        judgements, torn = read_answers(list(files), partial)
        check_benchmark(judgements, bench, list(BENCHMARKS.values()))
        arranged = arrange(judgements, bench, partial)
    revision = check_whole(arranged, bench, partial, expected)
    if expected is not None:
        wanted: int | None = len(expected)
    elif revision is not None:
        wanted = revision.rows
    else:
        wanted = max((r.rows for r in bench.revisions), default=None)
    short = wanted is not None and len(arranged.pairs) < wanted
    return Answers(bench, arranged, revision, wanted, short or bool(arranged.uneven or torn), torn)


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Rows are many tuples without cycles; looking through them for garbage takes a quarter of the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def score(answers: Answers, partition_name: str = "official", policy: str = "wrong", votes: int = 0) -> Figures:
    """All figures of `answers`; shares are between 0 and 1, None where there is nothing to count.

    Keys: n (pairs in the denominator), overall, macro, categories {NAME: {n, accuracy, low, high}}, acc_plus
    (MM-RLHF); how it was counted: bench, revision, partition, policy, rows, expected, partial, orders, samples,
    judgements; what hangs on it: unparsed, ties, consistency, position_bias, position, policies {NAME: {n, overall,
    macro}}, votes {K: ...}, splits; and notes. `low` and `high` are 95 %: Wilson for shares (the pair is the trial),
    bootstrap for the macro. With `votes`, only the first samples count, for all but the keys `samples` and `votes`.
    """
    bench, arranged = answers.bench, answers.arranged
    cut = partition(bench, partition_name)
    if policy not in POLICIES:
        raise UserError(f"no policy is called {policy!r}; there are: {', '.join(POLICIES)}")
    if votes > arranged.samples:
        raise UserError(f"--votes {votes}, but there are {arranged.samples} judgements of each pair to vote")
    names = _names(arranged, cut.category, cut)
    counted = first_samples(arranged, votes)
    counts = vote_counts(counted)
    scores = pair_scores(counts, policy, bench)
    if not _counted(scores).any():
        raise UserError(f"no verdict is clear, so with the policy {policy!r} nothing is left to count")
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
    figures["notes"] = _notes(answers, counted, cut, figures)
    return figures


def _names(arranged: Arranged, category: Callable[[Facts], str | None], cut: Partition) -> list[str]:
    names = [category(pair.facts) for pair in arranged.pairs]
    without = sorted(pair.judgements[0].row for pair, name in zip(arranged.pairs, names, strict=True) if name is None)
    if without:
        raise UserError(f"{rows_text(without)}: no category can be told, because the row lacks {cut.needs}")
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
    """Category -> the scores of its counted pairs."""
    import numpy as np

    labels, counted = np.array([name or "" for name in names]), _counted(scores)
    return {str(name): scores[(labels == name) & counted] for name in np.unique(labels) if name}


def _by_name(scores: Any, names: Sequence[str | None], order: tuple[str, ...]) -> dict[str, Figures]:
    groups = _grouped(scores, names)
    shown = [name for name in order if name in groups] + [name for name in groups if name not in order]
    return {name: _share(groups[name]) for name in shown}


def _share(scores: Any) -> Figures:
    low, high = wilson(float(scores.sum()), len(scores))
    return {"n": len(scores), "accuracy": float(scores.mean()) if len(scores) else None, "low": low, "high": high}


def _wilson(scores: Any) -> tuple[float, float]:
    counted = scores[_counted(scores)]
    return wilson(float(counted.sum()), len(counted))


def _macro_interval(scores: Any, names: Sequence[str], cut: Partition) -> list[float]:
    groups = [group for group in _grouped(scores, names).values() if len(group)]
    rows = sum(len(group) for group in groups)
    extra = 1.0 if cut.macro_with_all else 0.0  # the overall is the groups' mean too, weighted by their rows
    return list(macro_interval(groups, [1 + extra * len(group) / rows for group in groups]))


def _acc_plus(scores: Any, groups: Sequence[str], names: Sequence[str], cut: Partition) -> Figures:
    """acc+: the share of ids whose counted pairs are all right (in both orders, when both are there)."""
    counted = _counted(scores)
    right: dict[str, bool] = {}
    home: dict[str, str] = {}
    for score, group, name, counts in zip(scores, groups, names, counted, strict=True):
        if counts:
            right[group] = right.get(group, True) and score == 1
            home.setdefault(group, name)
    low, high = wilson(sum(right.values()), len(right))
    by_category: dict[str, list[bool]] = defaultdict(list)
    for group, whole in right.items():
        by_category[home[group]].append(whole)
    order = {name: at for at, name in enumerate(cut.names)}
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


def _notes(answers: Answers, counted: Arranged, cut: Partition, figures: Figures) -> list[str]:
    """What a reader of the figures must know, one sentence each. counted: `answers` without the votes left out."""
    arranged, bench = answers.arranged, answers.bench
    notes = []
    if answers.partial:
        missing = (answers.expected or 0) - len(arranged.pairs)
        notes.append(
            f"PARTIAL: {len(arranged.pairs):,} of {answers.expected or len(arranged.pairs):,} pairs; "
            "not comparable with any complete score"
        )
        if arranged.uneven:
            notes.append(f"{arranged.uneven:,} pairs have fewer judgements than the others")
        notes += [
            f"{cut_off.file}: the last line (row {cut_off.row}) is cut off and left out" for cut_off in answers.torn
        ]
        if missing and (gone := [name for name in cut.names if name not in figures["categories"] and name != "none"]):
            notes.append(f"no pair of {', '.join(gone)}: the macro is the mean of the other categories")
    if answers.expected is None:
        notes.append("how many pairs there should be is not known; say it with --pairs")
    if answers.revision and not answers.partial and figures["partition"] == "official":
        for name, size in answers.revision.sizes.items():
            found = sum(
                1 for pair in arranged.pairs if name in (cut.category(pair.facts), (bench.splits or _none)(pair.facts))
            )
            if found != size:
                notes.append(f"{name} has {found:,} pairs where the {answers.revision.name} has {size:,}")
    ids = len({pair.facts.id for pair in arranged.pairs})
    if answers.revision and answers.revision.ids and ids > answers.revision.ids:
        notes.append(f"{ids:,} distinct ids where the {answers.revision.name} has {answers.revision.ids:,}")
    if arranged.repeated:
        notes.append(f"{rows_text(arranged.repeated)} repeat other rows word for word and count as rows of their own")
    if all(j.swapped is None for pair in arranged.pairs for j in pair.judgements):
        notes.append(
            "the rows do not say `reverse`: the better response was always shown first, so position bias counts"
        )
    if cut.macro_with_all:
        notes.append("this partition's macro averages the overall in again, as upstream's script does")
    if guessed := sum(j.guessed for pair in counted.pairs for j in pair.judgements):
        notes.append(f"{guessed:,} verdicts come from critiques without <answer>: the script took some digit in them")
    if bench.acc_plus and arranged.both_orders:
        notes.append("acc+ asks for every pair of an id right in both orders, which is harder than in one")
    if blind := sum(j.blind for pair in counted.pairs for j in pair.judgements):
        notes.append(f"{blind:,} judgements were made with a blank picture where one was missing")
    recorded = figures["policies"]["recorded"]["overall"]
    wrong = figures["policies"]["wrong"]["overall"]
    if recorded != wrong:
        notes.append(
            f"critiques without any verdict were recorded as verdicts: counted as recorded, overall would be "
            f"{recorded:.2%} instead of {wrong:.2%}"
        )
    return notes


def _none(facts: Facts) -> str | None:
    return None


def sizes(answers: Answers) -> dict[str, dict[str, int]]:
    """Pairs in each category, for each partition that can be made of these rows."""
    found: dict[str, dict[str, int]] = {}
    for name, cut in answers.bench.partitions.items():
        names = [cut.category(pair.facts) for pair in answers.arranged.pairs]
        if None not in names:
            found[name] = dict(Counter(str(category) for category in names))
    return found
