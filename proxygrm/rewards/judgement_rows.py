"""Scores rows of judgements by R1-Reward's contract (`reward score --contract r1`), and sums up many of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.core.labels import BadLabel, labels_in
from proxygrm.critique.think_answer import parse
from proxygrm.rewards.consistency import accuracy, read_consistency, score
from proxygrm.rewards.rollouts import response_in

ADDED_FIELDS = ("accuracy", "format", "score", "judge_excerpt", "judge_answer_phrase", "reason")
UNSCORED, NO_CONSISTENCY = "unscored", "no_consistency"


@dataclass(frozen=True, slots=True)
class ScoredJudgement:
    row: dict[str, Any]
    right: int
    well_formed: int
    score: float | None
    lost: bool
    """A right answer without a consistency."""
    problem: str
    cause: str
    """Why there is no consistency, as the row says."""


def score_row(row: Any, as_upstream: bool) -> ScoredJudgement:
    """The row with `accuracy` and `format` (0 | 1), `score`, and what a consistency judge is shown: `judge_excerpt`,
    `judge_answer_phrase`. `reason`: a word for the first thing that is wrong with the response.

    A right answer without a consistency has the score None and the reason "unscored"; with `as_upstream` it counts as
    0, with the reason "no_consistency". Raises BadRow.
    """
    response = response_in(row)
    try:
        golds = labels_in(row)
    except BadLabel as error:
        raise BadRow(error.cause, str(error)[:200]) from None
    judgement = parse(response)
    consistency = _consistency_of(row)
    right, well_formed = accuracy(judgement, golds), int(judgement.well_formed)
    lost = bool(right) and consistency is None
    value = None if lost and not as_upstream else score(right, judgement.well_formed, consistency or 0.0)
    reason = (NO_CONSISTENCY if as_upstream else UNSCORED) if lost else judgement.problem
    added = {
        "format": well_formed,
        "accuracy": right,
        "score": value,
        "judge_excerpt": judgement.excerpt,
        "judge_answer_phrase": judgement.answer_phrase,
    }
    out = {key: value for key, value in row.items() if key not in ADDED_FIELDS} | added
    if reason:
        out["reason"] = reason
    cause = row.get("cause") or (row.get("problem") if row.get("unscored") else "")
    return ScoredJudgement(
        out, right, well_formed, value, lost, judgement.problem, cause if isinstance(cause, str) else ""
    )


def _consistency_of(row: Mapping[str, Any]) -> float | None:
    """None too for a rollout of RL that lost its reward: its columns are 0 then."""
    try:
        consistency = read_consistency(row)
    except KeyError:
        raise BadRow("no_consistency", "consistency is missing; null means that no judge decided") from None
    except ValueError as error:
        raise BadRow("bad_consistency", str(error)) from None
    return None if row.get("unscored") else consistency


@dataclass
class Tally:
    """Sums over scored rows."""

    rows: int = 0
    right: int = 0
    well_formed: int = 0
    judged: int = 0
    scored: int = 0
    score_sum: float = 0.0
    lost: Counter[str] = field(default_factory=Counter)  # cause -> right answers without a consistency
    problems: Counter[str] = field(default_factory=Counter)  # what is wrong with responses -> rows

    def add(self, scored: ScoredJudgement) -> None:
        self.rows += 1
        self.right += scored.right
        self.well_formed += scored.well_formed
        self.judged += scored.right and not scored.lost
        if scored.score is not None:
            self.scored += 1
            self.score_sum += scored.score
        if scored.lost:
            self.lost[scored.cause or "no cause given"] += 1
        if scored.problem:
            self.problems[scored.problem] += 1
