"""One score file from those of several scalar reward models: a weighted mean, without a GPU.

Inputs are score files (`judges.scalar`) or the answers.jsonl of `eval run` for scalar judges, over the same pairs; the
output has the rows of the first with the scores of all.

The weights are BaseReward's (arXiv 2509.16127), whose plain mean did best: `mean`; `accuracy`: that of each judge on
its validation pairs; `margin`: the mean of (score of the better response - score of the worse), at least 0. Each adds
up to 1. `standardised` is ours: the Bradley-Terry loss fixes differences only, so that a judge with larger scores
dominates the mean; here each judge's scores count in standard deviations from their mean.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file
from proxygrm.evaluate.ensemble.files import PairKey, Scores, other_pairs, refuse_other_pairs, scores_of, with_scores

MEAN, ACCURACY, MARGIN, STANDARDISED = WEIGHTS = ("mean", "accuracy", "margin", "standardised")
LABELLED = (ACCURACY, MARGIN)
"""Weights that need to know the better response of each validation pair."""


@dataclass(frozen=True)
class Ensemble:
    """What `combine` did."""

    pairs: int
    weights: dict[str, float]
    """By score file."""
    text_only: int
    """Pairs with the scores of the text-only file."""


def combine(
    files: Sequence[Path],
    out: Path,
    weights: str = MEAN,
    validation: Sequence[Path] = (),
    text_only: Path | None = None,
) -> Ensemble:
    """Write `out`. validation: score files of other pairs, one per judge in the same order. text_only: scores of a
    judge of text for the pairs without an image: those whose row says so, else all that it scores.

    Nothing is written when it raises UserError: ensemble.other-pairs, ensemble.other-layout, ensemble.no-labels,
    ensemble.no-weight, ensemble.equal-scores, ensemble.validation-count, ensemble.too-few, and those of `Scores.read`.
    """
    _check_files(files, out, weights, validation, text_only)
    judges = [Scores.read(path) for path in files]
    validations = [Scores.read(path) for path in validation]
    text = Scores.read(text_only) if text_only else None
    everyone = [*judges, *([text] if text else [])]
    better_first = any(not each.in_given_order for each in everyone)
    for each in everyone:
        if better_first and not each.labelled:
            raise UserError(
                f"{each.path} has the scores of response 1 and 2, other files those of the chosen and the rejected "
                "response; write all in one layout",
                code="ensemble.other-layout",
                path=each.path,
            )
    text_keys = _text_keys(judges, text)
    first = judges[0]
    for other in judges[1:]:
        refuse_other_pairs(first, other, leave_out=text_keys)
    for each in validations[1:]:
        refuse_other_pairs(validations[0], each)
    shares = _shares(judges, validations, weights)
    scales = [_scale(each) for each in validations or judges] if weights == STANDARDISED else [_unscaled] * len(judges)
    by_judge = [each.in_order(better_first) for each in judges]
    texts = text.in_order(better_first) if text else {}

    def scores(key: PairKey) -> tuple[float, float]:
        if key in text_keys:
            return texts[key]
        parts = list(zip(shares, scales, [each[key] for each in by_judge], strict=True))
        one, two = (math.fsum(share * scale(pair[i]) for share, scale, pair in parts) for i in (0, 1))
        return one, two

    with whole_file(out) as scratch, scratch.open("w", encoding="utf-8") as file:
        for key, row in first.rows:
            file.write(json.dumps(with_scores(row, scores(key), better_first)) + "\n")
    return Ensemble(len(first.of), {str(each.path): s for each, s in zip(judges, shares, strict=True)}, len(text_keys))


def _check_files(
    files: Sequence[Path], out: Path, weights: str, validation: Sequence[Path], text_only: Path | None
) -> None:
    if len(files) < 2 and not text_only:
        raise UserError(
            "an ensemble has at least two score files, or one and --text-only",
            code="ensemble.too-few",
            files=len(files),
        )
    twice = [path for n, path in enumerate(files) if path.resolve() in {other.resolve() for other in files[:n]}]
    if twice:
        raise UserError(
            f"{twice[0]} is given twice; each judge has a file of its own", code="ensemble.same-file", path=twice[0]
        )
    if out.resolve() in {path.resolve() for path in (*files, *validation, *([text_only] if text_only else []))}:
        raise UserError(f"--out {out} is an input; give another file", code="option.out-is-input", path=out)
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a .jsonl file", code="option.bad-out", path=out)
    if weights == MEAN and validation:
        raise UserError(
            "--validation has no effect with --weights mean; leave it out",
            code="option.no-effect",
            option="--validation",
        )
    if weights in LABELLED and not validation:
        raise UserError(
            f"--weights {weights} is taken from other pairs than those that are judged; give their scores with "
            "--validation FILE, once per judge",
            code="option.missing",
            option="--validation",
            weights=weights,
        )
    if validation and len(validation) != len(files):
        raise UserError(
            f"{len(validation)} --validation files for {len(files)} judges; give one per judge, in the same order",
            code="ensemble.validation-count",
            validations=len(validation),
            judges=len(files),
        )


def _shares(judges: Sequence[Scores], validations: Sequence[Scores], weights: str) -> list[float]:
    """Of each judge; they add up to 1."""
    if weights not in LABELLED:
        return [1 / len(judges)] * len(judges)
    measure = _accuracy if weights == ACCURACY else _margin
    measured = []
    for each in validations:
        if not each.labelled:
            raise UserError(
                f"{each.path} does not say which response is better, which --weights {weights} needs; its rows are "
                "{id, rewards: [chosen, rejected]} or the answers of `eval run`",
                code="ensemble.no-labels",
                path=each.path,
            )
        measured.append(max(0.0, measure(list(each.in_order(better_first=True).values()))))
    total = math.fsum(measured)
    if not total:
        raise UserError(
            f"no judge has a weight: by {weights}, all are 0 on the validation pairs; use --weights mean",
            code="ensemble.no-weight",
            weights=weights,
        )
    return [each / total for each in measured]


def _accuracy(pairs: Sequence[tuple[float, float]]) -> float:
    """A tie is wrong."""
    return sum(better > worse for better, worse in pairs) / len(pairs)


def _margin(pairs: Sequence[tuple[float, float]]) -> float:
    return math.fsum(better - worse for better, worse in pairs) / len(pairs)


def _unscaled(score: float) -> float:
    return score


def _scale(scores: Scores) -> Callable[[float], float]:
    """Scores less the mean of this file's, over their deviation (population)."""
    values = [score for pair in scores.of.values() for score in scores_of(pair)]
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    if not deviation:
        raise UserError(
            f"all scores of {scores.path} are {mean}; they cannot be standardised",
            code="ensemble.equal-scores",
            path=scores.path,
        )
    return lambda score: (score - mean) / deviation


def _text_keys(judges: Sequence[Scores], text: Scores | None) -> set[PairKey]:
    """The pairs that the text-only judge decides."""
    if text is None:
        return set()
    first = judges[0]
    knows_images = all("images" in row for row in first.of.values())
    keys = {key for key, row in first.of.items() if not row["images"]} if knows_images else set(text.of)
    if missing := [key for key in keys if key not in (text.of if knows_images else first.of)]:
        which = f"pairs of {first.path} without an image" if knows_images else "pairs that the other files do not have"
        problem = f"{text.path} has no scores for" if knows_images else f"{text.path} scores"
        raise other_pairs(f"{problem} {len(missing):,} {which}", text.path, missing)
    return keys
