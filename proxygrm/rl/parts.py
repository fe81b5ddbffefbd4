"""Decisions about one step's rollouts: means of the reward's parts, who is left out, when to stop. Pure.

A row is what `reward_fn.compute_score` returned: score, accuracy (+1|-1), proxy (+1|-1, 0 when there is none),
format (1|0), unscored (0|1), problem ("" or a word), early (1: judged while it was being generated),
plus `group`, the id of the prompt it was sampled from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

LABEL_MISMATCH = "label_mismatch"
Row = Mapping[str, Any]


class TooManyUnscored(RuntimeError):
    """So many rollouts went without a reward that training on the rest would mislead."""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def step_metrics(rows: Sequence[Row], expected: int) -> dict[str, float]:
    """Means over the scored rollouts of a step; `reward/unscored` is the share of `expected` that has no reward.

    `reward/accuracy` and `reward/proxy_agreement` are shares of right verdicts (0..1), over the rollouts that
    have one; `reward/proxy_coverage` is the share of rollouts the proxy judged.
    """
    scored = [row for row in rows if not row["unscored"]]
    judged = [row for row in scored if row["proxy"]]
    metrics = {
        "reward/score_mean": _mean([row["score"] for row in scored]),
        "reward/accuracy": _mean([float(row["accuracy"] > 0) for row in scored]),
        "reward/format": _mean([float(row["format"]) for row in scored]),
        "reward/proxy_coverage": len(judged) / len(rows) if rows else 0.0,
        "reward/unscored": _unscored(rows, expected) / expected,
        "reward/rollouts": float(len(rows)),
    }
    if judged:
        metrics["reward/proxy_agreement"] = _mean([float(row["proxy"] > 0) for row in judged])
        if any(row.get("early") for row in judged):
            metrics["reward/judged_early"] = _mean([float(row.get("early", 0.0)) for row in judged])
    for problem, count in Counter(row["problem"] for row in rows if row["problem"]).items():
        metrics[f"reward/problem/{problem}"] = float(count)
    return metrics


def _unscored(rows: Sequence[Row], expected: int) -> int:
    """Rollouts marked unscored, plus those that never arrived (their generation failed)."""
    return sum(bool(row["unscored"]) for row in rows) + max(0, expected - len(rows))


def why_stop(rows: Sequence[Row], expected: int, max_unscored: float) -> str:
    """Why the run must not go on, or "" when it may."""
    mismatched = sum(row["problem"] == LABEL_MISMATCH for row in rows)
    if mismatched:
        return (
            f"{mismatched} rollouts have a label in extra_info that differs from reward_model.ground_truth: "
            "the training file is inconsistent, convert it again"
        )
    lost = _unscored(rows, expected)
    if lost > max_unscored * expected:
        reasons = Counter(row["problem"] or "unknown" for row in rows if row["unscored"])
        reasons["never_generated"] = max(0, expected - len(rows))
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common() if count)
        return (
            f"{lost} of {expected} rollouts have no reward ({said}); the limit is {max_unscored:.0%} "
            "(max_unscored). Look at the proxy's log"
        )
    if rows and not kept_rollouts(rows):
        return f"no prompt of the step has two rollouts with a reward ({lost} of {expected} have none)"
    return ""


def kept_rollouts(rows: Sequence[Row]) -> list[int]:
    """Positions to train on: scored rollouts of groups that still have at least two.

    A group of one has no baseline (verl would take its raw score for the advantage).
    """
    sizes = Counter(row["group"] for row in rows if not row["unscored"])
    return [i for i, row in enumerate(rows) if not row["unscored"] and sizes[row["group"]] >= 2]
