"""Published results to stand beside one's own, and what can be known about how they were counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    name: str
    values: dict[str, str]  # benchmark -> per cent, as printed: its decimals say how far it was rounded
    counted: str  # what is known of order and parse failures


def _values(vl: str, multimodal: str, mm_rlhf: str) -> dict[str, str]:
    return {"vl-rewardbench": vl, "multimodal-rewardbench": multimodal, "mm-rlhf-rewardbench": mm_rlhf}


ANCHORS = (
    Anchor(
        "Proxy-GRM 7B", _values("75.22", "85.62", "82.94"),
        "one unseeded random order; a parse failure is wrong on VL-RewardBench and a verdict for 2 on the others",
    ),
    Anchor("UnifiedReward-Think", _values("73.80", "84.40", "81.18"), "order and parse failures not known here"),
    Anchor(
        "R1-Reward (200k pairs)", _values("71.92", "82.20", "80.59"),
        "its released script shows the better response first, always; a parse failure is wrong",
    ),
    Anchor("BaseReward 7B (2.8M pairs)", _values("82.2", "72.8", "91.76"), "scalar rewards: no order, no parsing"),
)  # fmt: skip
"""Accuracies in per cent, as the Proxy-GRM paper (arXiv 2603.16600) prints them; protocols from released scripts."""


def decimals(value: str) -> int:
    return len(value.partition(".")[2])


def right_of(value: str, rows: int, *, halves: bool = False) -> float | None:
    """How many of `rows` were right if `value` per cent is their share, or None when no count gives that value.

    halves: rows may count half (two orders, or a coin's expectation). A trailing zero may be padding: then the value
    is also read with one decimal less.
    """
    for text in (value, value[:-1]) if value.endswith("0") and "." in value else (value,):
        step, tolerance = (2 if halves else 1), 0.5 * 10 ** -decimals(text) + 1e-9
        nearest = round(float(text) / 100 * rows * step) / step
        if abs(nearest / rows * 100 - float(text)) <= tolerance:
            return nearest
    return None
