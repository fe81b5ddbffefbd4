"""The name of a benchmark on the command line, in any spelling: vl-rewardbench, vl_rewardbench, VL-RewardBench."""

from __future__ import annotations

from typing import Any

import click

from proxygrm.evaluate.benchmarks import BENCHMARKS
from proxygrm.evaluate.steps.benchmark import STEP_BENCHMARKS


class _Benchmark(click.Choice[str]):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        plain = str(value).lower().replace("_", "-")
        return super().convert(plain if plain in self.choices else value, param, ctx)


BENCH_NAME = _Benchmark(list(BENCHMARKS))
"""Of pairs."""
ANY_BENCH_NAME = _Benchmark([*BENCHMARKS, *STEP_BENCHMARKS])
"""Of pairs or of steps."""
