"""How often two judges of the same rubrics have the same verdict, from their opinions. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from proxygrm.core.labels import Label
from proxygrm.evaluate.scores.metrics import Figures, share_of, wilson
from proxygrm.evaluate.scores.paired import mcnemar_exact


@dataclass(frozen=True)
class Opinion:
    """verdict: None where there is a `cause`. soft: probability of verdict 1, None in the mode `critique`."""

    verdict: Label | None
    soft: float | None = None
    cause: str = ""
    latency_s: float = 0.0


@dataclass(frozen=True)
class Judged:
    """One rollout's rubric, judged by both. pair: equal for rollouts of the same pair."""

    pair: str
    label: Label
    a: Opinion
    b: Opinion


def agreement_figures(rows: Sequence[Judged]) -> Figures:
    """All shares are 0..1, None when there is nothing to count.

    same            equal verdicts / rows with two verdicts, with a 95 % Wilson interval whose trials are the pairs:
                    rollouts of one pair are not independent, so the interval is conservative
    same_all        equal verdicts / all rows: a row that either left unscored counts as disagreement
    kappa           Cohen's (1960): (same - chance) / (1 - chance), chance from how often each has verdict 1
    verdicts        rows with two verdicts, by (a's, b's)
    mcnemar         pairs on which one is right more often than the other, and the exact p of such a difference by
                    chance; with one rollout per pair this is McNemar's test
    a, b            of each alone: scored, unscored by cause, `right` (verdict = label) / scored with interval,
                    says_1, brier (mean squared distance of the score from the label; 0.25 for a constant 0.5) and the
                    mean time of a judgement, queueing included
    """
    both = [row for row in rows if row.a.verdict and row.b.verdict]
    table = Counter((row.a.verdict, row.b.verdict) for row in both)
    same = table[1, 1] + table[2, 2]
    one_a, one_b = (share_of(table[1, 1] + table[cell], len(both)) for cell in ((1, 2), (2, 1)))
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
        "same_all": share_of(same, len(rows)),
        "kappa": None if chance is None or chance == 1 else (same / len(both) - chance) / (1 - chance),
        "verdicts": {f"{a},{b}": table[a, b] for a in (1, 2) for b in (1, 2)},
        "mcnemar": {"only_a": only_a, "only_b": only_b, "p": mcnemar_exact(only_a, only_b)},
        "a": _alone(rows, [row.a for row in rows]),
        "b": _alone(rows, [row.b for row in rows]),
    }


def _alone(rows: Sequence[Judged], opinions: Sequence[Opinion]) -> Figures:
    scored = [(row, opinion) for row, opinion in zip(rows, opinions, strict=True) if opinion.verdict]
    soft = [(o.soft - (row.label == 1)) ** 2 for row, o in scored if o.soft is not None]
    return {
        "scored": len(scored),
        "unscored": dict(Counter(opinion.cause for opinion in opinions if not opinion.verdict).most_common()),
        "right": _share(sum(o.verdict == row.label for row, o in scored), [row for row, _ in scored]),
        "says_1": share_of(sum(o.verdict == 1 for _, o in scored), len(scored)),
        "brier": share_of(sum(soft), len(soft)),
        "latency_mean_s": share_of(sum(o.latency_s for _, o in scored), len(scored)),
    }


def _share(part: int, rows: Sequence[Judged]) -> Figures:
    share, trials = share_of(part, len(rows)), len({row.pair for row in rows})
    low, high = (None, None) if share is None else wilson(share * trials, trials)
    return {"share": share, "low": low, "high": high, "of": len(rows)}
