"""A recipe with the stages that EVPV-PRM's studies repeat, and nothing before them; judged by an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.engine.recipe import Recipe
from jobs.engine.stage import Stage
from jobs.recipes.evpv_studies import SWEEPS
from jobs.stages import process_benchmark

ABLATIONS = Path(__file__).parents[3] / "jobs" / "recipes" / "ablations" / "evpv_prm"


@dataclass(frozen=True)
class Config:
    judge: str
    data: str
    process_benchmark: process_benchmark.Settings


def chain(c: Config) -> list[Stage]:
    return [
        process_benchmark.stage("process_benchmark", judge=c.judge, data=c.data, settings=c.process_benchmark),
    ]


def preset() -> Config:
    return Config("http://127.0.0.1:9", "release", process_benchmark.Settings(judge_model="rule-process"))


RECIPE = Recipe("step-study", chain, {"demo": preset}, sweeps=SWEEPS, ablations=str(ABLATIONS))
