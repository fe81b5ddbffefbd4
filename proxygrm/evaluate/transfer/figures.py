"""Figures of rubric transfer: verdicts of an unseen judge in, accuracy of each condition and paired gains out. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from proxygrm.evaluate.rows.ordered_pair import OrderedPair, proxy_verdict_of
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.scores.metrics import Figures, wilson
from proxygrm.evaluate.scores.paired import add_holm, paired_figures
from proxygrm.evaluate.transfer.conditions import BASE, NONE, OTHER, OWN, Condition

BASELINES = (NONE, OTHER, BASE)
TITLES = {NONE: "no rubric", OWN: "own rubric", OTHER: "another pair's rubric", BASE: "the base model's rubric"}
MAX_WITHOUT_VERDICT = 0.1
"""Share of judgements without a verdict above which a condition gets a note."""


def cell_figures(
    grm: str,
    judge: str,
    ordered: Sequence[OrderedPair],
    conditions: Mapping[str, Condition],
    answers: Mapping[str, Row],
) -> Figures:
    """One reward model's rubrics used by one judge.

    answers: raw answers by `PairWithRubric.key`. Returns {grm, judge, conditions {name: ...}, gains {over: ...},
    categories {name: {conditions, gains}}, notes [...]}. An unparsed verdict or a refused prompt is not right; both are
    counted, and `clear` of a gain is the same over the ordered pairs with a verdict under both conditions.
    """
    verdicts = {
        name: [None if request is None else _verdict(answers[request.key]) for request in condition.requests]
        for name, condition in conditions.items()
    }
    right = {
        name: [None if v is None else float(v == pair.label) for v, pair in zip(values, ordered, strict=True)]
        for name, values in verdicts.items()
    }
    clear = {
        name: [r if v else None for r, v in zip(right[name], values, strict=True)] for name, values in verdicts.items()
    }
    keys = [(o.pair.id, o.copy) for o in ordered]
    figures = _figures(keys, right)
    for over, gain_figures in figures["gains"].items():
        gain_figures["clear"] = gain(keys, clear[over], clear[OWN])
    for name, condition in conditions.items():
        rows = [answers[request.key] for request in condition.requests if request is not None]
        figures["conditions"][name] |= {
            "unparsed": sum(row["problem"] is None and proxy_verdict_of(row) is None for row in rows),
            "refused": sum(row["problem"] is not None for row in rows),
            "truncated": sum(bool(row["truncated"]) for row in rows),
            "not_sent": dict(condition.not_sent),
            "reads_like_own": condition.same_as_own,
        }
    indices: dict[str, list[int]] = defaultdict(list)
    for index, o in enumerate(ordered):
        indices[o.pair.category or "all"].append(index)
    categories = {
        name: _figures([keys[i] for i in members], {c: [values[i] for i in members] for c, values in right.items()})
        for name, members in sorted(indices.items())
    }
    return {"grm": grm, "judge": judge, **figures, "categories": categories, "notes": _notes(figures["conditions"])}


def _verdict(answer: Row) -> int:
    """1 or 2; 0 without a verdict."""
    return (proxy_verdict_of(answer) or 0) if answer["problem"] is None else 0


def _notes(by_condition: Mapping[str, Figures]) -> list[str]:
    """What keeps a gain from being an effect of what the rubric says."""
    notes = []
    for name, figures in by_condition.items():
        without_verdict = figures["unparsed"] + figures["refused"]
        if figures["judgements"] and without_verdict > MAX_WITHOUT_VERDICT * figures["judgements"]:
            notes.append(
                f"{TITLES[name]}: {without_verdict:,} of {figures['judgements']:,} judgements have no verdict, so "
                "gains over it measure whether the judge answers at all; read the gains over clear verdicts"
            )
    if same := by_condition[OTHER]["reads_like_own"]:
        notes.append(
            f"{same:,} of {by_condition[OTHER]['judgements']:,} rubrics of another pair are identical to the own "
            "rubric, which makes the control weaker"
        )
    return notes


def _figures(keys: Sequence[Any], right: Mapping[str, Sequence[float | None]]) -> Figures:
    gains = {over: gain(keys, right[over], right[OWN]) for over in BASELINES if over in right}
    return {"conditions": {name: accuracy(keys, values) for name, values in right.items()}, "gains": gains}


def accuracy(keys: Sequence[Any], right: Sequence[float | None]) -> Figures:
    """Mean over pairs of the share of orders judged right; Wilson interval with the pair as the trial.

    keys: of the pair, for each order; right: 1, 0, or None where nothing was requested.
    """
    scores = [sum(values) / len(values) for values in _by_pair(keys, right).values()]
    low, high = wilson(sum(scores), len(scores))
    return {
        "pairs": len(scores),
        "judgements": sum(value is not None for value in right),
        "accuracy": sum(scores) / len(scores) if scores else None,
        "low": low if scores else None,
        "high": high if scores else None,
    }


def gain(keys: Sequence[Any], without: Sequence[float | None], with_own: Sequence[float | None]) -> Figures:
    """Own rubric minus the other condition, pair by pair, over the orders requested under both.

    The test is that of `compare`, in which a pair is right when it is right in every order judged. `pairs` and
    `judgements` are counts; all else is None when they are 0.
    """
    both = [a is not None and b is not None for a, b in zip(without, with_own, strict=True)]
    before = _by_pair(keys, [a if in_both else None for a, in_both in zip(without, both, strict=True)])
    after = _by_pair(keys, [b if in_both else None for b, in_both in zip(with_own, both, strict=True)])
    if not before:
        return {"pairs": 0, "judgements": 0} | dict.fromkeys(
            ("without", "with", "difference", "low", "high", "won", "lost", "p")
        )
    a = [sum(values) / len(values) for values in before.values()]
    b = [sum(values) / len(values) for values in after.values()]
    counts = {"pairs": len(a), "judgements": sum(both), "without": sum(a) / len(a), "with": sum(b) / len(b)}
    return counts | paired_figures(a, b)


def add_corrected_p(cells: Sequence[Figures]) -> None:
    """Add `p_holm` to the gains: Holm's correction over all cells of the matrix, separately for each baseline."""
    for over in BASELINES:
        add_holm([cell["gains"][over] for cell in cells if over in cell["gains"]])


def _by_pair(keys: Sequence[Any], right: Sequence[float | None]) -> dict[Any, list[float]]:
    pairs: dict[Any, list[float]] = defaultdict(list)
    for key, value in zip(keys, right, strict=True):
        if value is not None:
            pairs[key].append(value)
    return pairs
