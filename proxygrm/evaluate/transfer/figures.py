"""Figures of rubric transfer: verdicts of an unseen judge in, accuracy of each condition and paired gains out. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.rows.shown import Shown, proxy_verdict_of
from proxygrm.evaluate.scores.compare import holm
from proxygrm.evaluate.scores.metrics import mcnemar_exact, paired_difference, wilson
from proxygrm.evaluate.transfer.conditions import BASE, NONE, OTHER, OWN, Asked

Figures = dict[str, Any]
BASELINES = (NONE, OTHER, BASE)
ABOUT = {NONE: "no rubric", OWN: "own rubric", OTHER: "another pair's rubric", BASE: "the base model's rubric"}
MOST_LOST = 0.1
"""Share of judgements without a verdict above which a condition gets a note."""


def cell(
    grm: str, judge: str, sights: Sequence[Shown], asked: Mapping[str, Asked], answers: Mapping[str, Row]
) -> Figures:
    """One reward model's rubrics before one judge.

    answers: raw answers by `Told.key`. Returns {grm, judge, conditions {name: ...}, gains {over: ...},
    categories {name: {conditions, gains}}, notes [...]}. An unparsed verdict or a refused prompt is not right; both are
    counted, and `clear` of a gain is the same over the sights where both conditions have a verdict.
    """
    verdicts = {
        name: [None if told is None else _verdict(answers[told.key]) for told in condition.told]
        for name, condition in asked.items()
    }
    right = {
        name: [None if v is None else float(v == s.label) for v, s in zip(of, sights, strict=True)]
        for name, of in verdicts.items()
    }
    clear = {name: [r if v else None for r, v in zip(right[name], of, strict=True)] for name, of in verdicts.items()}
    keys = [(s.pair.id, s.copy) for s in sights]
    found = _figures(keys, right)
    for over, figures in found["gains"].items():
        figures["clear"] = gain(keys, clear[over], clear[OWN])
    for name, condition in asked.items():
        rows = [answers[told.key] for told in condition.told if told is not None]
        found["conditions"][name] |= {
            "unparsed": sum(row["problem"] is None and proxy_verdict_of(row) is None for row in rows),
            "refused": sum(row["problem"] is not None for row in rows),
            "truncated": sum(bool(row["truncated"]) for row in rows),
            "not_sent": dict(condition.not_sent),
            "reads_like_own": condition.own_text,
        }
    places: dict[str, list[int]] = defaultdict(list)
    for at, s in enumerate(sights):
        places[s.pair.category or "all"].append(at)
    categories = {
        name: _figures([keys[at] for at in at_], {c: [rights[at] for at in at_] for c, rights in right.items()})
        for name, at_ in sorted(places.items())
    }
    return {"grm": grm, "judge": judge, **found, "categories": categories, "notes": _notes(found["conditions"])}


def _verdict(answer: Row) -> int:
    """1 or 2; 0 when there is none."""
    return (proxy_verdict_of(answer) or 0) if answer["problem"] is None else 0


def _notes(of: Mapping[str, Figures]) -> list[str]:
    """What keeps a gain from being read as what the rubric says."""
    notes = []
    for name, figures in of.items():
        lost = figures["unparsed"] + figures["refused"]
        if figures["judgements"] and lost > MOST_LOST * figures["judgements"]:
            notes.append(
                f"{ABOUT[name]}: {lost:,} of {figures['judgements']:,} judgements have no verdict, so gains against it "
                "measure whether the judge answers at all; read those over clear verdicts"
            )
    if copies := of[OTHER]["reads_like_own"]:
        notes.append(
            f"{copies:,} of {of[OTHER]['judgements']:,} rubrics of another pair read exactly like the own: the control "
            "is weaker for it"
        )
    return notes


def _figures(keys: Sequence[Any], right: Mapping[str, Sequence[float | None]]) -> Figures:
    gains = {over: gain(keys, right[over], right[OWN]) for over in BASELINES if over in right}
    return {"conditions": {name: accuracy(keys, rights) for name, rights in right.items()}, "gains": gains}


def accuracy(keys: Sequence[Any], right: Sequence[float | None]) -> Figures:
    """Mean over pairs of the share of sights judged right; Wilson interval with the pair as the trial.

    keys: of the pair, a sight each; right: 1, 0, or None where nothing was asked.
    """
    scores = [sum(of) / len(of) for of in _by_pair(keys, right).values()]
    low, high = wilson(sum(scores), len(scores))
    return {
        "pairs": len(scores),
        "judgements": sum(value is not None for value in right),
        "accuracy": sum(scores) / len(scores) if scores else None,
        "low": low if scores else None,
        "high": high if scores else None,
    }


def gain(keys: Sequence[Any], without: Sequence[float | None], with_own: Sequence[float | None]) -> Figures:
    """Own rubric less the other condition, pair by pair, over the sights asked in both.

    Paired bootstrap over pairs; McNemar's exact p, in which a pair is right when it is right in every order asked, as
    in `compare`. `n` pairs; all else is None when there is none.
    """
    both = [a is not None and b is not None for a, b in zip(without, with_own, strict=True)]
    before = _by_pair(keys, [a if ok else None for a, ok in zip(without, both, strict=True)])
    after = _by_pair(keys, [b if ok else None for b, ok in zip(with_own, both, strict=True)])
    if not before:
        return {"pairs": 0, "judgements": 0} | dict.fromkeys(
            ("without", "with", "difference", "low", "high", "won", "lost", "p")
        )
    a = [sum(of) / len(of) for of in before.values()]
    b = [sum(of) / len(of) for of in after.values()]
    difference, low, high = paired_difference(a, b)
    won = sum(y == 1 > x for x, y in zip(a, b, strict=True))
    lost = sum(x == 1 > y for x, y in zip(a, b, strict=True))
    return {
        "pairs": len(a), "judgements": sum(both), "without": sum(a) / len(a), "with": sum(b) / len(b),
        "difference": difference, "low": low, "high": high, "won": won, "lost": lost, "p": mcnemar_exact(won, lost),
    }  # fmt: skip


def corrected(cells: Sequence[Figures]) -> None:
    """Adds `p_holm` to the gains: Holm's correction over all cells of the matrix, for each baseline by itself."""
    for over in BASELINES:
        rows = [found["gains"][over] for found in cells if over in found["gains"]]
        tested = [row for row in rows if row["p"] is not None]
        for row in rows:
            row["p_holm"] = None
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["p_holm"] = p


def _by_pair(keys: Sequence[Any], right: Sequence[float | None]) -> dict[Any, list[float]]:
    pairs: dict[Any, list[float]] = defaultdict(list)
    for key, value in zip(keys, right, strict=True):
        if value is not None:
            pairs[key].append(value)
    return pairs
