"""Figures of verdicts on steps (pure): F1 of both classes, and whether the first error is found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from proxygrm.evaluate.steps.benchmark import NEUTRAL, RIGHT, WRONG

Verdict = int | None
"""RIGHT or WRONG, None when it could not be read."""


class Judged(NamedTuple):
    """The labels of a solution's steps, and one verdict on each."""

    source: str
    labels: tuple[int, ...]
    verdicts: tuple[Verdict, ...]


def figures_of(solutions: Sequence[Judged]) -> dict[str, Any]:
    """macro_f1, f1_correct, f1_incorrect, first_error_accuracy (shares, None without a solution), steps, and
    neutral_dropped over all solutions; by_source: the same of each source.

    The definition of the benchmark's users: neutral steps are left out, the steps of all sources are pooled, and the
    macro F1 is the mean of the F1 of right and of wrong steps. An unreadable verdict is a false negative of its label,
    and a false positive of nothing.
    """
    sources = sorted({solution.source for solution in solutions})
    of_source = {source: [s for s in solutions if s.source == source] for source in sources}
    return _figures(solutions) | {"by_source": {source: _figures(part) for source, part in of_source.items()}}


def finds_first_error(labels: Iterable[int], verdicts: Iterable[Verdict]) -> bool:
    """Whether the first wrong step, or that there is none, is predicted. Neutral steps are left out; an unreadable
    verdict before that step leaves it open which step was meant, so nothing is found then."""
    for label, verdict in zip(labels, verdicts, strict=True):
        if label == NEUTRAL:
            continue
        if verdict != label:
            return False
        if label == WRONG:
            return True
    return True


def _figures(solutions: Sequence[Judged]) -> dict[str, Any]:
    steps = [pair for s in solutions for pair in zip(s.labels, s.verdicts, strict=True)]
    scored = [pair for pair in steps if pair[0] != NEUTRAL]
    right, wrong = _f1(scored, RIGHT), _f1(scored, WRONG)
    found = [finds_first_error(solution.labels, solution.verdicts) for solution in solutions]
    return {
        "macro_f1": (right + wrong) / 2,
        "f1_correct": right,
        "f1_incorrect": wrong,
        "first_error_accuracy": sum(found) / len(found) if found else None,
        "steps": len(scored),
        "neutral_dropped": len(steps) - len(scored),
    }


def _f1(scored: Sequence[tuple[int, Verdict]], of: int) -> float:
    """2 TP / (2 TP + FP + FN); 0 where nothing is labelled or judged so."""
    hits = sum(label == verdict == of for label, verdict in scored)
    either = sum(label == of for label, _ in scored) + sum(verdict == of for _, verdict in scored)
    return 2 * hits / either if either else 0.0
