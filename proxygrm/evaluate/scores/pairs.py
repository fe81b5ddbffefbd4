"""From judgements to pairs: which rows judge the same pair, whether the file is whole, and what each pair scores.

Ids repeat in the benchmarks, so a pair is its id and its texts; rows without texts that share an id are told apart
by their position. The result does not depend on the order of the rows, except for that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import Benchmark, Facts, Revision
from proxygrm.evaluate.rows.answers import RIGHT, UNPARSED, WRONG, Judgement, named, rows_text
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
    samples: int  # judgements of a pair (of each of its orders, when both are there)
    repeated: list[int]  # rows that stand in the file twice with the same texts
    uneven: int  # pairs with fewer judgements than the others


def arrange(judgements: Sequence[Judgement], bench: Benchmark, partial: bool) -> Arranged:
    """Group the rows by pair. UserError when some rows say in which order they were shown and others do not, and
    for pairs that lack an order or a sample (unless `partial`)."""
    silent = [j.row for j in judgements if j.swapped is None]
    if silent and len(silent) < len(judgements):
        raise UserError(f"`reverse` is missing in {rows_text(silent)} and given in the others; nothing was scored")
    judgements = _numbered_samples(judgements)
    slots: dict[tuple[Any, int], list[Judgement]] = defaultdict(list)
    for j in judgements:
        slots[j.key, j.sample].append(j)
    crossed = sum(len({j.swapped for j in rows}) == 2 for rows in slots.values())
    both = 2 * crossed > len(slots)
    found: dict[tuple[Any, int], list[Judgement]] = defaultdict(list)
    repeated = []
    for (key, _), rows in slots.items():
        if len(rows) == 1:
            found[key, 0].append(rows[0])
            continue
        seen: Counter[bool | None] = Counter()
        for j in rows:
            order = j.swapped if both else None
            found[key, seen[order]].append(j)
            if seen[order] and key[1]:
                repeated.append(j.row)
            seen[order] += 1
    pairs = [Pair(key, rows[0].facts, rows[0].group, tuple(rows)) for key, rows in found.items()]
    most = max(len(pair.judgements) for pair in pairs)
    uneven = [pair for pair in pairs if len(pair.judgements) < most]
    if uneven and not partial:
        lack = "one of their two orders" if both and most == 2 else f"some of their {most} judgements"
        lacking = sorted(j.row for pair in uneven for j in pair.judgements)
        raise UserError(
            f"{len(uneven):,} of {len(pairs):,} pairs lack {lack} ({rows_text(lacking)}); judge the "
            "rest, or score what is there with --partial"
        )
    return Arranged(pairs, both, most // (2 if both else 1), sorted(repeated), len(uneven))


def _numbered_samples(judgements: Sequence[Judgement]) -> Sequence[Judgement]:
    """Files given side by side are samples of one judge: their rows' samples are numbered on."""
    if not any(j.file for j in judgements):
        return judgements
    step = max(j.sample for j in judgements) + 1
    return [j._replace(sample=j.sample + step * j.file) for j in judgements]


def check_whole(arranged: Arranged, bench: Benchmark, partial: bool, expected: Sequence[str] | None) -> Revision | None:
    """The revision the file is whole for. UserError when it is for none: said with what is missing or too much.

    expected: the ids that must be there, each as often as its rows, instead of the known revisions' counts.
    """
    rows, ids = len(arranged.pairs), Counter(pair.facts.id for pair in arranged.pairs)
    if expected is not None:
        _check_ids(arranged, ids, Counter(expected), partial)
        return bench.revision(len(expected)) or Revision("the given pairs", len(expected))
    if not bench.revisions:
        return None
    revision = bench.revision(rows)
    twice = f"; {rows_text(arranged.repeated)} repeat others word for word" if arranged.repeated else ""
    if revision is None:
        largest = max(r.rows for r in bench.revisions)
        if rows > largest:
            raise UserError(
                f"{rows:,} pairs, but {bench.title} has {bench.sizes}{twice}; remove rows that stand twice, or give "
                "each run of several as its own --answers"
            )
        if not partial:
            raise UserError(
                f"{rows:,} pairs, but {bench.title} has {bench.sizes}: {largest - rows:,} are missing{twice}; judge "
                "them, name the rows you meant with --pairs, or score what is there with --partial"
            )
        return None
    if revision.ids is not None and len(ids) < revision.ids:
        most = [name for name, count in ids.most_common(3) if count > 1]
        raise UserError(
            f"{rows:,} pairs as there should be, but of {len(ids):,} ids instead of {revision.ids:,}: some rows are "
            f"missing and others stand twice{twice} (most frequent: {named(most) or 'none'})"
        )
    return revision


def _check_ids(arranged: Arranged, ids: Counter[str], wanted: Counter[str], partial: bool) -> None:
    extra, missing = ids - wanted, wanted - ids
    if extra:
        rows = sorted(j.row for pair in arranged.pairs if pair.facts.id in extra for j in pair.judgements)
        raise UserError(
            f"{extra.total():,} pairs of the answers are not among the given pairs, or stand there less often: "
            f"{named(sorted(extra))} ({rows_text(rows)}); are these answers to other pairs?"
        )
    if missing and not partial:
        raise UserError(
            f"{missing.total():,} of {wanted.total():,} pairs have no answer: {named(sorted(missing))}; judge "
            "them, or score what is there with --partial"
        )


def check_benchmark(judgements: Sequence[Judgement], bench: Benchmark, others: Sequence[Benchmark]) -> None:
    """UserError when rows can only belong to another benchmark."""
    if bench.name == "pairs":
        return
    own = bench.name.replace("-", "_")
    for other in others:
        if other.name in ("pairs", bench.name):
            continue
        plain = other.name.replace("-", "_")
        foreign = [
            j.row
            for j in judgements
            if j.source.startswith(plain)
            or (not j.source.startswith(own) and other.evidence(j.facts) and not bench.evidence(j.facts))
        ]
        if foreign:
            raise UserError(
                f"{rows_text(foreign)} of {len(judgements):,} are answers to {other.title}, not to {bench.title}; "
                f"score them with --bench {other.name}"
            )


def first_samples(arranged: Arranged, votes: int) -> Arranged:
    """With the first `votes` samples of each pair (of each of its orders) alone; 0 takes all."""
    if not votes:
        return arranged
    most = votes * (2 if arranged.both_orders else 1)
    return replace(arranged, pairs=[pair._replace(judgements=_first(pair.judgements, most)) for pair in arranged.pairs])


def vote_counts(arranged: Arranged) -> Any:
    """Array [pair, order, (right, wrong, unclear, right as recorded)].

    Without both orders, everything stands under the first one.
    """
    import numpy as np

    both = arranged.both_orders
    counts = np.zeros(len(arranged.pairs) * 8)
    at: list[int] = []
    recorded: list[int] = []
    for number, pair in enumerate(arranged.pairs):
        for j in pair.judgements:
            start = 8 * number + (4 if both and j.swapped else 0)
            at.append(start + (j.outcome if j.outcome in (RIGHT, WRONG) else 2))
            if j.recorded:
                recorded.append(start + 3)
    np.add.at(counts, at, 1)
    np.add.at(counts, recorded, 1)
    return counts.reshape(-1, 2, 4)


def pair_scores(counts: Any, policy: str, bench: Benchmark) -> Any:
    """What each pair of `vote_counts` scores, 0 to 1; NaN where it leaves the denominator.

    policy: "wrong" an unparsed verdict or a tie is not right; "drop" it does not count; "official" what the
    benchmark's script does; "recorded" by the numbers in the file alone. A majority of all votes is needed, of the
    clear ones with "drop". With both orders, each order votes for itself and the pair scores their mean.
    """
    import numpy as np

    right, wrong, unclear, recorded = np.moveaxis(counts, 2, 0)
    total = right + wrong + unclear
    rule = bench.official if policy == "official" else policy
    if policy == "recorded":
        score = (recorded > total / 2).astype(float)
    elif rule == "wrong":
        score = (right > total / 2).astype(float)
    elif rule == "half":
        expected = right + unclear / 2
        score = np.where(expected == total / 2, 0.5, expected > total / 2)
    else:
        score = np.where(right == wrong, np.nan, right > wrong)
        if policy == "official":
            score = np.where(unclear > 0, np.nan, score)
    there = (total > 0) & ~np.isnan(score)
    summed = np.where(there, score, 0.0).sum(axis=1)
    orders = there.sum(axis=1)
    return np.divide(summed, orders, out=np.full(len(summed), np.nan), where=orders > 0)


def _first(judgements: tuple[Judgement, ...], count: int) -> tuple[Judgement, ...]:
    if len(judgements) <= count:
        return judgements
    return tuple(sorted(judgements, key=lambda j: (j.sample, bool(j.swapped)))[:count])


def order_figures(arranged: Arranged) -> dict[str, float | int | None]:
    """How the order of showing matters.

    consistency: of the pairs whose verdicts are all clear in both orders, those with the same majority response.
    says_1: share of verdicts that name the response shown first; better_first: how often the better one stood there;
    bias: their difference, 0 for a judge that does not mind places (or is always right).
    right_in_all: pairs right in every judgement / pairs.
    """
    said = Counter(j.said for pair in arranged.pairs for j in pair.judgements if j.said)
    judged = said[1] + said[2]
    known = [j for pair in arranged.pairs for j in pair.judgements if j.swapped is not None and j.said]
    by_place = {place: [j for j in known if j.swapped is place] for place in (False, True)}
    same = compared = 0
    if arranged.both_orders:
        for pair in arranged.pairs:
            ahead = [0, 0]
            for j in pair.judgements:
                ahead[int(bool(j.swapped))] += 1 if j.outcome == RIGHT else -1 if j.outcome == WRONG else 0
            if ahead[0] and ahead[1] and len(pair.judgements) > 1:
                compared += 1
                same += (ahead[0] > 0) == (ahead[1] > 0)
    says_1 = said[1] / judged if judged else None
    low, high = wilson(said[1], judged)
    better_first = len(by_place[False]) / len(known) if known else None
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
        "accuracy_better_first": _right(by_place[False]),
        "accuracy_better_second": _right(by_place[True]),
    }


def _right(judgements: list[Judgement]) -> float | None:
    return sum(j.outcome == RIGHT for j in judgements) / len(judgements) if judgements else None


def unclear_counts(arranged: Arranged) -> tuple[int, int, int]:
    """(unparsed, ties, all judgements)."""
    outcomes = Counter(j.outcome for pair in arranged.pairs for j in pair.judgements)
    total = outcomes.total()
    return outcomes[UNPARSED], total - outcomes[RIGHT] - outcomes[WRONG] - outcomes[UNPARSED], total
