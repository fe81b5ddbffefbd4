"""The figures of a policy's answers: matches with the reference answers, and what judges say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.scores.metrics import clustered_interval, paired_difference, wilson
from proxygrm.rewards.answers import sigmoid


@dataclass(frozen=True)
class Judged:
    """What one judge says of one answer."""

    win: float | None = None
    """Over the first policy's answer to the same question: 1, 0, or 0.5 for neither; None: not judged."""
    score: float | None = None
    """Of a scalar judge."""
    cause: str = ""
    """Why it is not judged."""


@dataclass(frozen=True)
class Answered:
    """A policy's answer to one question."""

    id: str
    text: str
    matches: bool | None
    """None: the question has no reference answer."""
    cut_off: bool = False
    refused: str = ""
    """Why the policy could not be asked."""
    judged: Mapping[str, Judged] = field(default_factory=dict)
    """By the judge's name."""

    @property
    def empty(self) -> bool:
        return not self.text.strip()


def figures(answers: Sequence[Answered], before: Sequence[Answered] = ()) -> Row:
    """before: the first policy's answers to the same questions, in the same order; () for the first policy itself.
    NAME_value is the mean of the sigmoid of a scalar judge's scores, NAME_score that of the scores themselves; changes
    are [mean, low, high] over the questions that both have a number for."""
    known = [answer for answer in answers if answer.matches is not None]
    right = sum(bool(answer.matches) for answer in known)
    low, high = wilson(right, len(known))
    found: Row = {
        "questions": len(answers),
        "with_answer": len(known),
        "accuracy": right / len(known) if known else None,
        "accuracy_low": low if known else None,
        "accuracy_high": high if known else None,
        "empty": sum(answer.empty for answer in answers),
        "cut_off": sum(answer.cut_off for answer in answers),
        "refused": sum(bool(answer.refused) for answer in answers),
    }
    if before:
        found["accuracy_change"] = _change([_number(a.matches) for a in before], [_number(a.matches) for a in answers])
    for name in answers[0].judged if answers else ():
        found |= _of_judge(name, answers, before)
    return found


def _of_judge(name: str, answers: Sequence[Answered], before: Sequence[Answered]) -> Row:
    judged = [answer.judged[name] for answer in answers]
    found: Row = {f"{name}_unjudged": sum(each.score is None and each.win is None for each in judged)}
    causes = [each.cause for each in judged if each.cause]
    if causes:
        found[f"{name}_causes"] = {cause: causes.count(cause) for cause in sorted(set(causes))}
    scores = {answer.id: each.score for answer, each in zip(answers, judged, strict=True) if each.score is not None}
    if scores:
        found[f"{name}_score"] = sum(scores.values()) / len(scores)
        found |= _mean(f"{name}_value", {key: sigmoid(score) for key, score in scores.items()})
    if before:
        found |= _mean(
            f"{name}_wins",
            {answer.id: each.win for answer, each in zip(answers, judged, strict=True) if each.win is not None},
        )
        if scores:
            earlier = [answer.judged[name].score for answer in before]
            found[f"{name}_change"] = _change(earlier, [each.score for each in judged])
    return found


def _mean(name: str, values: Mapping[str, float]) -> Row:
    if not values:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = clustered_interval(list(values.values()), list(values))
    return {name: sum(values.values()) / len(values), f"{name}_low": low, f"{name}_high": high}


def _number(value: bool | None) -> float | None:
    return None if value is None else float(value)


def _change(before: Sequence[float | None], after: Sequence[float | None]) -> list[float] | None:
    both = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    return list(paired_difference([a for a, _ in both], [b for _, b in both])) if both else None
