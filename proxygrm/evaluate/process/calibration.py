"""Is a low reliability really followed by wrong visual steps? From rows of `process score` and what is known of them.

A trial is a visual step whose label is known (`labels` of its response), or a solution with visual steps, whose final
answer is right or not. Reliabilities are rounded to three decimals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import object_rows
from proxygrm.evaluate.process.questions import responses_of
from proxygrm.evaluate.scores.metrics import Figures, middle_95
from proxygrm.process.match.answers import answers_equal, is_answer
from proxygrm.process.match.choices import choices_of

Against = Literal["steps", "answer"]
RESAMPLES = 2000
_AT_A_TIME = 100
"""Resamples, so that they fit into memory."""
_GRID = 1000
LOW = 0.5
"""A reliability up to it is called low: one grave contradiction takes 0.5 from 1."""


@dataclass(frozen=True)
class CalibrationSettings:
    against: Against = "answer"
    """What a reliability should say: whether each visual one of the `steps` is right (responses with `labels`, 1 or -1
    for each step, null where it is not known), or whether the final `answer` is."""
    bins: int = 5
    """Of equal width."""

    def __post_init__(self) -> None:
        check_bounds("calibration", self, from_one=("bins",), choices={"against": get_args(Against)})


class Trial(NamedTuple):
    reliability: float
    right: bool
    cluster: Hashable
    """The same for all trials of a question: they are drawn together."""


@dataclass
class Trials:
    trials: list[Trial] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Solutions (of steps: visual steps) without a trial, by cause."""


def read_trials(scored: Path, against: Against, refuse_none: bool = True) -> Trials:
    """UserError for a file without any trial, unless that is allowed: eval.no-trials."""
    read = Trials()
    for _, row in object_rows(scored):
        for response in responses_of(row).values():
            _add(read, row, response, against)
    if refuse_none and not read.trials:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in read.left_out.most_common()) or "no solutions"
        raise UserError(
            f"{scored}: nothing to compare a reliability with ({causes}); pass what `process score` writes"
            + (", of responses with `labels`" if against == "steps" else ", of questions with an `answer`"),
            code="eval.no-trials",
            path=scored,
            causes=dict(read.left_out),
        )
    return read


def _add(trials: Trials, row: Mapping[str, Any], response: Any, against: Against) -> None:
    judged = response.get("eval") if isinstance(response, dict) else None
    visual = judged.get("visual_step_indices") if isinstance(judged, dict) else None
    if visual is not None and not (isinstance(visual, list) and all(type(at) is int and at >= 0 for at in visual)):
        trials.left_out["bad_visual_steps"] += 1
        return
    if not isinstance(judged, dict) or not visual:
        trials.left_out["no_visual_steps" if judged and isinstance(judged, dict) else "not_scored"] += 1
        return
    reliability, cluster = _number(judged.get("local_p_score")), (str(row.get("question")), str(row.get("image")))
    known = reliability is not None
    if against == "answer":
        if reliability is None or not is_answer(row.get("answer")):
            trials.left_out["no_answer" if known else "unknown_reliability"] += 1
            return
        right = answers_equal(response.get("finalanswer"), row["answer"], choices_of(row))
        trials.trials.append(Trial(reliability, right, cluster))
        return
    labels, scores = response.get("labels"), judged.get("raw_step_scores")
    if isinstance(labels, list) and isinstance(scores, list) and len(labels) != len(scores):
        trials.left_out["other_labels"] += len(visual)  # of other steps than those that were scored
        return
    for at in visual:
        label = labels[at] if isinstance(labels, list) and at < len(labels) else None
        if reliability is None or label not in (1, -1) or isinstance(label, bool):
            trials.left_out["no_label" if known else "unknown_reliability"] += 1
        else:
            trials.trials.append(Trial(reliability, label == 1, cluster))


def _number(value: Any) -> float | None:
    """From 0 to 1, else None: NaN too."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1 else None


def calibration(trials: Sequence[Trial], bins: int, resamples: int = RESAMPLES, seed: int = 0) -> Figures:
    """Figures of a reliability, with KEY_low and KEY_high, 95 % bootstrap over questions.

    auroc                     probability that a right trial has a higher reliability than a wrong one, ties counting
                              half; None where all are right, or all wrong
    ece                       expected calibration error: the mean distance of reliability and share of right trials
                              over the bins, weighted by their trials (Guo et al. 2017)
    right_below, right_above  share of right trials with a reliability up to LOW, and above
    gap                       their difference; None where there is no such trial
    bins                      [{from, to, trials, reliability, right, low, high}], without empty ones
    """
    import numpy as np

    clusters: dict[Hashable, int] = {}
    rows = [(clusters.setdefault(t.cluster, len(clusters)), round(t.reliability * _GRID), t.right) for t in trials]
    distinct = sorted({value for _, value, _ in rows})
    place, values = {value: at for at, value in enumerate(distinct)}, np.array(distinct) / _GRID
    counts = np.zeros((len(clusters), 2, len(values)))
    for cluster, value, right in rows:
        counts[cluster, int(right), place[value]] += 1
    of_bin = np.minimum(np.array(distinct) * bins // _GRID, bins - 1)
    observed = _figures(counts.sum(axis=0)[None], values, of_bin, bins)
    drawn = [
        _figures(chunk, values, of_bin, bins) for chunk in _resampled(counts, resamples, np.random.default_rng(seed))
    ]
    figures: dict[str, Any] = {"trials": len(trials), "right": float(np.mean([t.right for t in trials]))}
    for name in ("auroc", "ece", "right_below", "right_above", "gap"):
        observed_value = float(observed[name][0])
        low, high = _ends(np.concatenate([chunk[name] for chunk in drawn]))
        interval = (None, None, None) if np.isnan(observed_value) else (observed_value, low, high)
        figures |= dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))
    rights = np.concatenate([chunk["bins"] for chunk in drawn])
    totals = counts.sum(axis=(0, 1))
    rows_of_bins = []
    for at in range(bins):
        inside = of_bin == at
        if not (number := int(totals[inside].sum())):
            continue
        low, high = _ends(rights[:, at])
        rows_of_bins.append({
            "from": at / bins, "to": (at + 1) / bins, "trials": number,
            "reliability": float((totals * values)[inside].sum() / number),
            "right": float(observed["bins"][0, at]), "low": low, "high": high,
        })  # fmt: skip
    return figures | {"bins": rows_of_bins}


def _resampled(counts: Any, resamples: int, rng: Any) -> Iterator[Any]:
    """Sums of clusters drawn with replacement: (resamples, wrong and right, values), part by part."""
    import numpy as np

    total, flat = len(counts), counts.reshape(len(counts), -1)
    for begin in range(0, resamples, _AT_A_TIME):
        number = min(_AT_A_TIME, resamples - begin)
        drawn = rng.multinomial(total, np.full(total, 1 / total), size=number).astype(float)
        yield (drawn @ flat).reshape(number, *counts.shape[1:])


def _figures(sums: Any, values: Any, of_bin: Any, bins: int) -> dict[str, Any]:
    """Arrays with a value for each of `sums`; NaN where there is none."""
    import numpy as np

    wrong, right = sums[:, 0], sums[:, 1]
    both = wrong + right
    below = np.cumsum(wrong, axis=1) - wrong
    pairs = right.sum(axis=1) * wrong.sum(axis=1)
    better = (right * (below + wrong / 2)).sum(axis=1)

    def share(part: Any, whole: Any) -> Any:
        return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)

    low = values <= LOW
    member = np.eye(bins)[of_bin]  # (values, bins)
    total, hits, weight = both @ member, right @ member, (both * values) @ member
    distance = np.abs(np.nan_to_num(share(weight, total) - share(hits, total)))
    figures = {
        "auroc": share(better, pairs),
        "ece": (distance * total).sum(axis=1) / both.sum(axis=1),
        "right_below": share(right[:, low].sum(axis=1), both[:, low].sum(axis=1)),
        "right_above": share(right[:, ~low].sum(axis=1), both[:, ~low].sum(axis=1)),
        "bins": share(hits, total),
    }
    return figures | {"gap": figures["right_above"] - figures["right_below"]}


def _ends(drawn: Any) -> tuple[float | None, float | None]:
    """Of the resamples that have the figure."""
    import numpy as np

    known = drawn[~np.isnan(drawn)]
    return middle_95(known) if len(known) else (None, None)


def calibrated(scored: Path, settings: CalibrationSettings, refuse_none: bool = True) -> Figures:
    """The figures of a file, with `against` and, by cause, what is `left_out`. UserError as of `read_trials`; where no
    trial is allowed, there are no figures then, and no bins."""
    read = read_trials(scored, settings.against, refuse_none)
    figures = calibration(read.trials, settings.bins) if read.trials else {"trials": 0, "bins": []}
    return {"against": settings.against} | figures | {"left_out": dict(read.left_out)}
