"""A card of a scalar reward model, with the settings of the demo."""

from __future__ import annotations

from dataclasses import replace

from jobs.engine.stage import plain
from proxygrm.report.model_card import Card
from proxygrm.sft.settings import SftSettings

SCORED = {"pairs": 160, "accuracy": 0.725, "accuracy_low": 0.651, "accuracy_high": 0.788}
ROWS = {
    "pairs": 5000,
    "dropped": {"broken_image": 1},
    "sets": {"train": 4935, "validation": 64},
    "train": {"rlaif-v": 4000, "povid": 935},
}
BENCH = {
    "bench": "vl-rewardbench", "rows": 40, "expected": 1250, "partial": True, "orders": 1,
    "overall": 0.75, "overall_interval": [0.6, 0.86],
}  # fmt: skip


def card(backbone: str = "Qwen/Qwen2.5-VL-7B-Instruct") -> Card:
    training = plain(replace(SftSettings.demo(), command="rlhf", rlhf_type="rm", gradient_accumulation_steps=4))
    return Card("model", backbone, training, 2, ROWS, SCORED, {"vl-rewardbench": BENCH})
