"""What a critic wrote about each response of a pair -> the scores that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from proxygrm.critique.think_answer import Scored, parse_score


def read_scores(texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """texts: for each response what was written about it, K texts. A response's score is the mean of those texts that
    give one; `scores` is None unless both responses have one. The problems are counted once each."""
    of_responses = [[parse_score(text) for text in of_response] for of_response in texts]
    means = [_mean(parsed) for parsed in of_responses]
    every = [scored for parsed in of_responses for scored in parsed]
    return {
        "scores": None if None in means or not means else means,
        "score_samples": [[scored.score for scored in parsed] for parsed in of_responses],
        "well_formed": bool(every) and all(scored.well_formed for scored in every),
        "problems": list(dict.fromkeys(scored.problem for scored in every if scored.problem)),
        "text": "\n\n".join(
            f"Response {number}, {_figure(scored)}:\n{scored.text}"
            for number, parsed in enumerate(of_responses, 1)
            for scored in parsed
        ),
    }


def _mean(parsed: Sequence[Scored]) -> float | None:
    scores = [scored.score for scored in parsed if scored.score is not None]
    return fmean(scores) if scores else None


def _figure(scored: Scored) -> str:
    return "no score" if scored.score is None else f"{scored.score:g}"
