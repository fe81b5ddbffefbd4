"""Published results to stand beside one's own, and what can be known about how they were counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    name: str
    values: dict[str, str]  # benchmark -> per cent, as printed: its decimals say how far it was rounded


ANCHORS = (
    Anchor(
        "Proxy-GRM 7B",
        {"vl-rewardbench": "75.22", "multimodal-rewardbench": "85.62", "mm-rlhf-rewardbench": "82.94"},
    ),
    Anchor(
        "UnifiedReward-Think",
        {"vl-rewardbench": "73.80", "multimodal-rewardbench": "84.40", "mm-rlhf-rewardbench": "81.18"},
    ),
    Anchor(
        "R1-Reward (200k pairs)",
        {"vl-rewardbench": "71.92", "multimodal-rewardbench": "82.20", "mm-rlhf-rewardbench": "80.59"},
    ),
    Anchor(
        "BaseReward 7B (2.8M pairs)",
        {"vl-rewardbench": "82.2", "multimodal-rewardbench": "72.8", "mm-rlhf-rewardbench": "91.76"},
    ),
)
"""Accuracies in per cent, from the Proxy-GRM paper's table (arXiv 2603.16600) and the papers of the others."""

HOW_COUNTED = {
    "vl-rewardbench": "one unseeded random order; a parse failure is wrong (R1-Reward: better one always first)",
    "multimodal-rewardbench": "one unseeded random order; a parse failure counts as '2 wins'",
    "mm-rlhf-rewardbench": "one unseeded random order; a parse failure counts as '2 wins'",
}
"""What upstream's scripts do on each benchmark, and this suite's default does not."""


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
