"""From judgements to pairs: which rows judge the same pair, whether the file is complete, and what each pair scores.

Ids repeat in the benchmarks, so a pair is identified by its id and its texts; rows without texts that share an id are
distinguished by their position. Otherwise the result does not depend on the order of the rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import Benchmark, Facts, Revision
from proxygrm.evaluate.rows.answers import RIGHT, TIE, UNPARSED, WRONG, Judgement
from proxygrm.evaluate.rows.text import ids_text, rows_text
from proxygrm.evaluate.scores.metrics import wilson


class Pair(NamedTuple):
    key: tuple[tuple[str, int], int]  # (id and texts, occurrence)
    facts: Facts
    group: str
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True)
class Arranged:
    pairs: list[Pair]
    both_orders: bool
    samples: int  # judgements per pair (per order, when there are both)
    repeated: list[int]  # rows that are in the file twice with the same texts
    uneven: int  # pairs with fewer judgements than the others


def arrange(judgements: Sequence[Judgement], partial: bool) -> Arranged:
    """Group the rows by pair. UserError when the order is known for some rows only, and for pairs that lack an order or
    a sample (unless `partial`)."""
    without_order = [j.row for j in judgements if j.swapped is None]
    if without_order and len(without_order) < len(judgements):
        raise UserError(
            f"`reverse` is missing in {rows_text(without_order)} and present in the others; nothing was scored",
            code="eval.mixed-orders",
            rows=without_order,
        )
    judgements = _numbered_samples(judgements)
    by_sample: dict[tuple[Any, int], list[Judgement]] = defaultdict(list)
    for j in judgements:
        by_sample[j.key, j.sample].append(j)
    in_both_orders = sum(len({j.swapped for j in rows}) == 2 for rows in by_sample.values())
    both = 2 * in_both_orders > len(by_sample)
    by_pair: dict[tuple[Any, int], list[Judgement]] = defaultdict(list)
    repeated = []
    for (key, _), rows in by_sample.items():
        if len(rows) == 1:
            by_pair[key, 0].append(rows[0])
            continue
        seen: Counter[bool | None] = Counter()
        for j in rows:
            order = j.swapped if both else None
            by_pair[key, seen[order]].append(j)
            if seen[order] and key[1]:
                repeated.append(j.row)
            seen[order] += 1
    pairs = [Pair(key, rows[0].facts, rows[0].group, tuple(rows)) for key, rows in by_pair.items()]
    most = max(len(pair.judgements) for pair in pairs)
    uneven = [pair for pair in pairs if len(pair.judgements) < most]
    if uneven and not partial:
        missing = "one of their two orders" if both and most == 2 else f"some of their {most} judgements"
        rows_of_uneven = sorted(j.row for pair in uneven for j in pair.judgements)
        raise UserError(
            f"{len(uneven):,} of {len(pairs):,} pairs lack {missing} ({rows_text(rows_of_uneven)}); judge the "
            "rest, or score the existing judgements with --partial",
            code="eval.uneven",
            rows=rows_of_uneven,
            count=len(uneven),
            total=len(pairs),
        )
    return Arranged(pairs, both, most // (2 if both else 1), sorted(repeated), len(uneven))


def _numbered_samples(judgements: Sequence[Judgement]) -> Sequence[Judgement]:
    """Several files are samples of one judge: number the samples of all files consecutively."""
    if not any(j.file for j in judgements):
        return judgements
    step = max(j.sample for j in judgements) + 1
    return [j._replace(sample=j.sample + step * j.file) for j in judgements]


def check_complete(
    arranged: Arranged, bench: Benchmark, partial: bool, expected: Sequence[str] | None
) -> Revision | None:
    """The revision of the benchmark that the file covers. UserError when it covers none, with the missing or extra
    pairs.

    expected: the ids that must be present, once per row, instead of the known revisions' counts.
    """
    rows, ids = len(arranged.pairs), Counter(pair.facts.id for pair in arranged.pairs)
    if expected is not None:
        _check_ids(arranged, ids, Counter(expected), partial)
        return bench.revision(len(expected)) or Revision("the given pairs", len(expected))
    if not bench.revisions:
        return None
    revision = bench.revision(rows)
    repeated = f"; {rows_text(arranged.repeated)} repeat others word for word" if arranged.repeated else ""
    values: dict[str, Any] = {"count": rows, "bench": bench.name, "repeated": arranged.repeated}
    if revision is None:
        largest = max(r.rows for r in bench.revisions)
        if rows > largest:
            raise UserError(
                f"{rows:,} pairs, but {bench.title} has {bench.sizes}{repeated}; remove duplicate rows, or pass each "
                "of several runs as its own --answers",
                code="eval.extra-pairs",
                **values,
            )
        if not partial:
            raise UserError(
                f"{rows:,} pairs, but {bench.title} has {bench.sizes}: {largest - rows:,} are missing{repeated}; judge "
                "them, pass the pairs you meant with --pairs, or score the existing judgements with --partial",
                code="eval.missing-pairs",
                missing=largest - rows,
                **values,
            )
        return None
    if revision.ids is not None and len(ids) < revision.ids:
        most = [name for name, count in ids.most_common(3) if count > 1]
        raise UserError(
            f"{rows:,} pairs as expected, but of {len(ids):,} ids instead of {revision.ids:,}: some rows are missing "
            f"and others are duplicates{repeated} (most frequent: {ids_text(most) or 'none'})",
            code="eval.wrong-ids",
            ids=len(ids),
            expected=revision.ids,
            **values,
        )
    return revision


def _check_ids(arranged: Arranged, ids: Counter[str], expected: Counter[str], partial: bool) -> None:
    extra, missing = ids - expected, expected - ids
    if extra:
        rows = sorted(j.row for pair in arranged.pairs if pair.facts.id in extra for j in pair.judgements)
        raise UserError(
            f"{extra.total():,} answered pairs are not among the pairs to judge, or less often: "
            f"{ids_text(sorted(extra))} ({rows_text(rows)}); are these answers to other pairs?",
            code="eval.unexpected-ids",
            count=extra.total(),
            ids=sorted(extra),
            rows=rows,
        )
    if missing and not partial:
        raise UserError(
            f"{missing.total():,} of {expected.total():,} pairs have no answer: {ids_text(sorted(missing))}; judge "
            "them, or score the existing judgements with --partial",
            code="eval.missing-ids",
            count=missing.total(),
            total=expected.total(),
            ids=sorted(missing),
        )


def first_samples(arranged: Arranged, votes: int) -> Arranged:
    """Only the first `votes` samples of each pair (of each of its orders); 0: all."""
    if not votes:
        return arranged
    most = votes * (2 if arranged.both_orders else 1)
    return replace(arranged, pairs=[pair._replace(judgements=_first(pair.judgements, most)) for pair in arranged.pairs])


class Votes(NamedTuple):
    """Arrays [pair, order]. Without both orders, order 1 is all zeros."""

    right: Any
    wrong: Any
    unparsed: Any
    tied: Any
    recorded: Any  # right by the recorded numbers alone


def vote_counts(arranged: Arranged) -> Votes:
    import numpy as np

    both, fields = arranged.both_orders, len(Votes._fields)
    column = {RIGHT: 0, WRONG: 1, UNPARSED: 2, TIE: 3}
    counts = np.zeros(len(arranged.pairs) * 2 * fields)
    outcomes: list[int] = []
    recorded: list[int] = []
    for number, pair in enumerate(arranged.pairs):
        for j in pair.judgements:
            start = fields * (2 * number + (1 if both and j.swapped else 0))
            outcomes.append(start + column[j.outcome])
            if j.recorded:
                recorded.append(start + fields - 1)
    np.add.at(counts, outcomes, 1)
    np.add.at(counts, recorded, 1)
    return Votes(*np.moveaxis(counts.reshape(-1, 2, fields), 2, 0))


def pair_scores(votes: Votes, policy: str, bench: Benchmark) -> Any:
    """The score of each pair of `vote_counts`, 0 to 1; NaN where it is not counted.

    policy: "wrong" an unparsed verdict or a tie is not right; "drop" it is not counted; "official" as in the
    benchmark's script; "recorded" by the numbers in the file alone. Right takes a majority of all votes, of the clear
    ones with "drop". With both orders, each order votes separately and the pair scores their mean.
    """
    import numpy as np

    right, wrong, unparsed, tied, recorded = votes
    unclear = unparsed + tied
    total = right + wrong + unclear
    rule = bench.official if policy == "official" else policy
    if policy == "recorded":
        score = (recorded > total / 2).astype(float)
    elif rule == "wrong":
        score = (right > total / 2).astype(float)
    elif rule in ("half", "half-unparsed"):
        expected = right + (unclear if rule == "half" else unparsed) / 2
        score = np.where(expected == total / 2, 0.5, expected > total / 2)
    else:
        score = np.where(right == wrong, np.nan, right > wrong)
        if policy == "official":
            score = np.where(unclear > 0, np.nan, score)
    counted = (total > 0) & ~np.isnan(score)
    summed = np.where(counted, score, 0.0).sum(axis=1)
    orders = counted.sum(axis=1)
    return np.divide(summed, orders, out=np.full(len(summed), np.nan), where=orders > 0)


def _first(judgements: tuple[Judgement, ...], count: int) -> tuple[Judgement, ...]:
    if len(judgements) <= count:
        return judgements
    return tuple(sorted(judgements, key=lambda j: (j.sample, bool(j.swapped)))[:count])


def order_figures(arranged: Arranged) -> dict[str, float | int | None]:
    """How much the order of the responses matters.

    consistency: of the pairs whose verdicts are clear in both orders, the share with the same majority response.
    says_1: share of verdicts for the response shown first; better_first: how often that was the better one; bias: their
    difference, 0 for a judge without position bias (or one that is always right).
    right_in_all: pairs right in every judgement / pairs.
    """
    verdicts = Counter(j.verdict for pair in arranged.pairs for j in pair.judgements if j.verdict)
    judged = verdicts[1] + verdicts[2]
    known = [j for pair in arranged.pairs for j in pair.judgements if j.swapped is not None and j.verdict]
    by_order = {swapped: [j for j in known if j.swapped is swapped] for swapped in (False, True)}
    same = compared = 0
    if arranged.both_orders:
        for pair in arranged.pairs:
            margin = [0, 0]  # right minus wrong verdicts, by order
            for j in pair.judgements:
                margin[int(bool(j.swapped))] += 1 if j.outcome == RIGHT else -1 if j.outcome == WRONG else 0
            if margin[0] and margin[1] and len(pair.judgements) > 1:
                compared += 1
                same += (margin[0] > 0) == (margin[1] > 0)
    says_1 = verdicts[1] / judged if judged else None
    low, high = wilson(verdicts[1], judged)
    better_first = len(by_order[False]) / len(known) if known else None
    right = sum(all(j.outcome == RIGHT for j in pair.judgements) for pair in arranged.pairs)
    return {
        "consistency": same / compared if compared else None,
        "consistency_pairs": compared,
        "says_1": says_1,
        "says_1_low": low,
        "says_1_high": high,
        "better_first": better_first,
        "bias": None if says_1 is None or better_first is None else says_1 - better_first,
        "right_in_all": right / len(arranged.pairs),
        "verdicts": judged,
        "accuracy_better_first": _accuracy(by_order[False]),
        "accuracy_better_second": _accuracy(by_order[True]),
    }


def _accuracy(judgements: list[Judgement]) -> float | None:
    return sum(j.outcome == RIGHT for j in judgements) / len(judgements) if judgements else None


def unclear_counts(arranged: Arranged) -> tuple[int, int, int]:
    """(unparsed, ties, all judgements)."""
    outcomes = Counter(j.outcome for pair in arranged.pairs for j in pair.judgements)
    total = outcomes.total()
    return outcomes[UNPARSED], total - outcomes[RIGHT] - outcomes[WRONG] - outcomes[UNPARSED], total
