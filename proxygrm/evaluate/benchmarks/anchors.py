"""Published results to compare with, and what is known about how they were counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    name: str
    values: dict[str, str]  # benchmark -> per cent, as printed: the decimals give the rounding
    counted: str  # what is known of order and parse failures


def _values(vl: str, multimodal: str, mm_rlhf: str) -> dict[str, str]:
    return {"vl-rewardbench": vl, "multimodal-rewardbench": multimodal, "mm-rlhf-rewardbench": mm_rlhf}


ANCHORS = (
    Anchor(
        "Proxy-GRM 7B", _values("75.22", "85.62", "82.94"),
        "one unseeded random order; a parse failure is wrong on VL-RewardBench and counts as verdict 2 on the others",
    ),
    Anchor("UnifiedReward-Think", _values("73.80", "84.40", "81.18"), "treatment of order and parse failures unknown"),
    Anchor(
        "R1-Reward (200k pairs)", _values("71.92", "82.20", "80.59"),
        "its released script always shows the better response first; a parse failure is wrong",
    ),
    Anchor("BaseReward 7B (2.8M pairs)", _values("82.2", "72.8", "91.76"), "scalar rewards: no order, no parsing"),
)  # fmt: skip
"""Accuracies in per cent, as the Proxy-GRM paper (arXiv 2603.16600) prints them; protocols from released scripts."""


def decimals(value: str) -> int:
    return len(value.partition(".")[2])


def right_of(value: str, rows: int, *, halves: bool = False) -> float | None:
    """How many of `rows` are right if `value` per cent of them are; None when no count gives that value.

    halves: rows may count half (two orders, or the expectation of a coin flip). A trailing zero may be padding, so the
    value is also read with one decimal less.
    """
    for text in (value, value[:-1]) if value.endswith("0") and "." in value else (value,):
        step, tolerance = (2 if halves else 1), 0.5 * 10 ** -decimals(text) + 1e-9
        nearest = round(float(text) / 100 * rows * step) / step
        if abs(nearest / rows * 100 - float(text)) <= tolerance:
            return nearest
    return None
