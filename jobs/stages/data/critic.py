"""Critic: LLaVA-Critic as released becomes a critic's training set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_tools.export.critic_rows import PROMPTS, CriticOptions
from jobs.engine.space.amounts import Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, OnNodes, Stage, StageRun
from jobs.stages import checks
from jobs.stages.data.shards import carry_out
from proxygrm.core.bounds import check_bounds
from proxygrm.core.settings import values_of


@dataclass(frozen=True)
class Settings(OnNodes, CriticOptions):
    validation: float = 0.01
    """Share of the images whose rows are set aside for the evaluation loss; 0: none."""
    against: str = ""
    """Pairs folders of benchmarks, separated by commas; rows about their images are left out."""
    max_bad: float = 0.01
    """Share of unusable rows above which it fails."""
    shards: int = 8
    """Parts of the work; the result does not depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("critic", self, from_one=("shards",), shares=("validation", "max_bad"))

    @property
    def options(self) -> CriticOptions:
        return CriticOptions(**values_of(self, CriticOptions))


def stage(name: str, *, release: str, settings: Settings) -> Stage:
    """Makes `train.jsonl`, and with a share for validation `validation.jsonl`."""
    benchmarks = [path.strip() for path in settings.against.split(",") if path.strip()]
    sets = ["train.jsonl", *(["validation.jsonl"] if settings.validation else [])]
    return Stage(
        name=name,
        run=write_sets,
        needs={"release": Given(release)} | {f"against_{n}": checks.pairs(path) for n, path in enumerate(benchmarks)},
        makes=tuple(Artifact(each) for each in sets),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        prompts=PROMPTS,
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The images once, and the texts: twice, where a comparison is in both orders."""
    release = need("release")
    return Space(2 * release.size, {"train.jsonl": Amount(release.size, 2 * release.rows)})


def write_sets(run: StageRun) -> None:
    from data_tools.export.critic_set import critic_step

    settings: Settings = run.config
    against: list[Path] = [path for label, path in run.inputs.items() if label.startswith("against_")]
    step = critic_step(
        run.inputs["release"],
        run.out,
        settings.options,
        validation=settings.validation,
        against=against,
        max_bad=settings.max_bad,
    )
    carry_out(step, run)
