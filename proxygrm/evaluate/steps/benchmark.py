"""What the scorer knows of a step benchmark: how many solutions and steps its release has, by source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

RIGHT, NEUTRAL, WRONG = LABELS = (1, 0, -1)
"""Of a step; neutral ones are not scored."""


class Size(NamedTuple):
    solutions: int
    steps: int


@dataclass(frozen=True)
class StepBenchmark:
    name: str
    title: str
    sizes: Mapping[str, Size]
    """Of every source in the release."""

    @property
    def total(self) -> Size:
        return Size(*map(sum, zip(*self.sizes.values(), strict=True)))


VISUALPROCESSBENCH = StepBenchmark(
    "visualprocessbench",
    "VisualProcessBench",
    {  # counted in test.jsonl of OpenGVLab/VisualProcessBench
        "MathVision_MINI": Size(712, 7000),
        "MathVerse_MINI_Vision_Only": Size(1026, 9667),
        "MMMU_DEV_VAL": Size(267, 2679),
        "DynaMath": Size(570, 5026),
        "WeMath": Size(291, 2578),
    },
)
STEP_BENCHMARKS = {bench.name: bench for bench in (VISUALPROCESSBENCH,)}
