"""A recipe with the stages that EVPV-PRM's studies repeat, and nothing before them; judged by an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.engine.recipe import Recipe
from jobs.engine.stage import Given, Stage
from jobs.recipes.evpv_studies import SWEEPS
from jobs.stages.measuring import perception, process_benchmark

ABLATIONS = Path(__file__).parents[3] / "jobs" / "recipes" / "ablations" / "evpv_prm"


@dataclass(frozen=True)
class Config:
    judge: str
    data: str
    questions: str
    """A JSONL in the folder of its images."""
    process_benchmark: process_benchmark.Settings
    perception: perception.Settings
    intervenes: bool = True


def chain(c: Config) -> list[Stage]:
    return [
        process_benchmark.stage("process_benchmark", judge=c.judge, data=c.data, settings=c.process_benchmark),
        perception.stage(
            "perception", questions=Given(c.questions), images=Given(str(Path(c.questions).parent)), policy=c.judge,
            extractor=c.judge, settings=c.perception,
        ),
    ]  # fmt: skip


def preset() -> Config:
    return Config(
        "http://127.0.0.1:9",
        "release",
        "questions.jsonl",
        process_benchmark.Settings(judge_model="rule-process"),
        perception.Settings(policy_model="rule-process", extractor_model="rule-process"),
    )


RECIPE = Recipe("step-study", chain, {"demo": preset}, sweeps=SWEEPS, ablations=str(ABLATIONS))
