"""Ranking the candidates that `process score` has scored, by an aggregate of their step scores."""

from __future__ import annotations

from itertools import permutations
from math import isclose
from pathlib import Path

from proxygrm.core.files.json_lines import object_rows
from proxygrm.evaluate.best_of_n.curves import TIE
from proxygrm.evaluate.best_of_n.ranking import Prompt, Ranked, prompt_id
from proxygrm.evaluate.best_of_n.solutions import read_solutions
from proxygrm.process.aggregate import aggregate


def rank_by_steps(path: Path, name: str, scores: str = "final") -> tuple[list[Ranked], int]:
    """As if each candidate had been compared with each other one by its aggregate `name`; and how many have no score,
    which lose to those that have one. A row without an id is called by its number. UserError as of `read_solutions`."""
    solutions = read_solutions(path, scores)
    ids = [prompt_id(row, path, number) or f"row {number}" for number, row in object_rows(path)]
    rows, unscored = [], 0
    for row_id, question in zip(ids, solutions.questions, strict=True):
        candidates = [candidate for candidate in question.candidates if not candidate.missing]
        values = [aggregate(name, candidate.scores) if candidate.scores else None for candidate in candidates]
        unscored += values.count(None)
        wins = {(a, b): _win(values[a], values[b]) for a, b in permutations(range(len(values)), 2)}
        correct = tuple(candidate.correct for candidate in candidates)
        rows.append(Ranked(Prompt(row_id, len(candidates), correct, has_reference=False), wins, unclear=0))
    return rows, unscored


def _win(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 0.5 if one is other else float(one is not None)
    return 0.5 if isclose(one, other, rel_tol=TIE) else float(one > other)
