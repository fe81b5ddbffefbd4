"""How often two judges of the same rubrics say the same, from their opinions. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proxygrm.core.labels import Label
from proxygrm.evaluate.scores.metrics import mcnemar_exact, wilson

Figures = dict[str, Any]


@dataclass(frozen=True)
class Opinion:
    """verdict: None with a `cause`. soft: probability of verdict 1, None in the mode `critique`."""

    verdict: Label | None
    soft: float | None = None
    cause: str = ""
    latency_s: float = 0.0


@dataclass(frozen=True)
class Judged:
    """One rollout's rubric, judged by both. pair: rollouts of one pair have the same."""

    pair: str
    label: Label
    a: Opinion
    b: Opinion


def figures(rows: Sequence[Judged]) -> Figures:
    """All shares are 0..1, None when there is nothing to count.

    same            verdicts that are the same / rows with two verdicts, with a 95 % Wilson interval whose trials are
                    the pairs: rollouts of one pair are not independent, so it is rather too wide than too narrow
    same_all        the same / all rows: a row that either left unscored is no agreement
    kappa           Cohen's (1960): (same - chance) / (1 - chance), chance from how often each says 1
    verdicts        rows with two verdicts, by (a's, b's)
    mcnemar         pairs on which one is right more often than the other, and the exact p of such a difference by
                    chance; with one rollout a pair this is McNemar's test
    a, b            of each alone: scored, unscored by cause, `right` (verdict = label) / scored with interval,
                    says_1, brier (mean squared distance of the score from the label; 0.25 is what knowing nothing
                    gives) and the mean time of a judgement, waiting included
    """
    both = [row for row in rows if row.a.verdict and row.b.verdict]
    table = Counter((row.a.verdict, row.b.verdict) for row in both)
    same = table[1, 1] + table[2, 2]
    one_a, one_b = (_part(table[1, 1] + table[cell], len(both)) for cell in ((1, 2), (2, 1)))
    chance = None if one_a is None or one_b is None else one_a * one_b + (1 - one_a) * (1 - one_b)
    balance: dict[str, int] = defaultdict(int)
    for row in both:
        balance[row.pair] += (row.a.verdict == row.label) - (row.b.verdict == row.label)
    only_a, only_b = sum(x > 0 for x in balance.values()), sum(x < 0 for x in balance.values())
    return {
        "rows": len(rows),
        "pairs": len({row.pair for row in rows}),
        "both": len(both),
        "same": _share(same, both),
        "same_all": _part(same, len(rows)),
        "kappa": None if chance is None or chance == 1 else (same / len(both) - chance) / (1 - chance),
        "verdicts": {f"{a},{b}": table[a, b] for a in (1, 2) for b in (1, 2)},
        "mcnemar": {"only_a": only_a, "only_b": only_b, "p": mcnemar_exact(only_a, only_b)},
        "a": _alone(rows, [row.a for row in rows]),
        "b": _alone(rows, [row.b for row in rows]),
    }


def _alone(rows: Sequence[Judged], opinions: Sequence[Opinion]) -> Figures:
    told = [(row, opinion) for row, opinion in zip(rows, opinions, strict=True) if opinion.verdict]
    soft = [(o.soft - (row.label == 1)) ** 2 for row, o in told if o.soft is not None]
    return {
        "scored": len(told),
        "unscored": dict(Counter(opinion.cause for opinion in opinions if not opinion.verdict).most_common()),
        "right": _share(sum(o.verdict == row.label for row, o in told), [row for row, _ in told]),
        "says_1": _part(sum(o.verdict == 1 for _, o in told), len(told)),
        "brier": _part(sum(soft), len(soft)),
        "latency_mean_s": _part(sum(o.latency_s for _, o in told), len(told)),
    }


def _share(part: int, rows: Sequence[Judged]) -> Figures:
    share, trials = _part(part, len(rows)), len({row.pair for row in rows})
    low, high = (None, None) if share is None else wilson(share * trials, trials)
    return {"share": share, "low": low, "high": high, "of": len(rows)}


def _part(part: float, whole: int) -> float | None:
    return part / whole if whole else None
