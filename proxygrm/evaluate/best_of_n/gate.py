"""What the gate changes: the candidate chosen by gated scores against the one chosen by scores as judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.files.json_lines import json_rows
from proxygrm.evaluate.best_of_n.curves import chosen_of_all
from proxygrm.evaluate.best_of_n.solutions import Question, read_solutions
from proxygrm.evaluate.process.questions import responses_of
from proxygrm.evaluate.rows.row_file import write_rows
from proxygrm.evaluate.scores.metrics import Figures, clustered_interval
from proxygrm.process.aggregate import AGGREGATORS
from proxygrm.process.gate import gate


def gate_effect(scored: Path, aggregators: Sequence[str] = tuple(AGGREGATORS)) -> dict[str, Figures]:
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
    return {name: _figures(name, gated, judged) for name in aggregators}


def gate_again(scored: Path, target: Path, unreadable_audit: str) -> Path:
    """The rows of `scored` as `target`, gated by another rule for visual steps without a reliability."""
    write_rows(target, (_gated_again(row, unreadable_audit) for _, row in json_rows(scored)))
    return target


def _gated_again(row: dict[str, Any], unreadable_audit: str) -> dict[str, Any]:
    for name, response in responses_of(row).items():
        judged = response.get("eval") if isinstance(response, dict) else None
        if isinstance(judged, dict) and judged.get("raw_step_scores"):
            raw, visual = judged["raw_step_scores"], judged["visual_step_indices"]
            final = gate(raw, visual, judged["local_p_score"], unreadable_audit)
            row[name] = response | {"eval": judged | {"final_step_scores": final}}
    return row


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
