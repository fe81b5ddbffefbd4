"""What the gate changes: the candidate chosen by gated scores against the one chosen by scores as judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxygrm.evaluate.best_of_n.curves import chosen_of_all
from proxygrm.evaluate.best_of_n.solutions import Question, read_solutions
from proxygrm.evaluate.scores.metrics import Figures, clustered_interval
from proxygrm.process.aggregate import AGGREGATORS


def gate_effect(scored: Path) -> dict[str, Figures]:
    """{aggregator: figures} of a file of `process score`, with all its candidates.

    questions, candidates
    gated, judged        share of questions whose chosen candidate is right; ties share the choice
    gate                 gated - judged
    pass, random         some candidate is right; one taken by chance is
    better, worse        questions where the gate's choice is more, or less, likely to be right

    The shares and the difference have a 95 % bootstrap interval over questions (`KEY_low`, `KEY_high`), rows that
    repeat a question being drawn together; the difference is paired: both choices of a question are drawn together.
    UserError as of `read_solutions`.
    """
    gated, judged = (read_solutions(scored, scores).questions for scores in ("final", "raw"))
    return {name: _figures(name, gated, judged) for name in AGGREGATORS}


def _figures(name: str, gated: Sequence[Question], judged: Sequence[Question]) -> Figures:
    on, off = ([chosen_of_all(question, name) for question in each] for each in (gated, judged))
    difference = [one - other for one, other in zip(on, off, strict=True)]
    right = [[candidate.correct for candidate in question.candidates] for question in gated]
    values = {
        "gated": on,
        "judged": off,
        "gate": difference,
        "pass": [float(any(each)) for each in right],
        "random": [sum(each) / len(each) for each in right],
    }
    clusters = [question.cluster for question in gated]
    figures: dict[str, Any] = {"questions": len(gated), "candidates": len(gated[0].candidates)}
    for key, shares in values.items():
        low, high = clustered_interval(shares, clusters)
        figures |= {key: sum(shares) / len(shares), f"{key}_low": low, f"{key}_high": high}
    return figures | {"better": sum(each > 0 for each in difference), "worse": sum(each < 0 for each in difference)}
