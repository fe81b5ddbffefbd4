"""Distillation: a teacher writes a critique for every pair, or tries until it is right. An array element a shard,
resumed at the row."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, Stage, StageRun
from jobs.stages.data import served_teacher
from jobs.stages.data.served_teacher import RuleBased, TeacherSettings
from proxygrm.core.bounds import check_bounds
from proxygrm.critique.contracts import CONTRACTS, KINDS, PROXY_GRM, Contract

ROW = 200
"""Bytes of a critique's id, verdict and model."""


@dataclass(frozen=True)
class Settings(TeacherSettings):
    """How the teacher is asked, and how it is served when it is a checkpoint."""

    tries: int = 1
    """At a pair, until one is right: each has the responses in the other order and another seed. How many it took says
    how hard the pair is (`split`)."""
    contract: Contract = PROXY_GRM
    """What the teacher writes: Proxy-GRM's critique, or R1-Reward's judgement (`r1`)."""
    error_rate: float = 0.2
    """Only of the rule-based teacher: share of clear images it misreads."""
    fog_error_rate: float = 0.5
    """The same for images in fog."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("teacher", self, shares=("error_rate", "fog_error_rate"), choices={"contract": CONTRACTS})
        self.need_temperature(2, "the third is asked what the first was")


def stage(name: str, *, pairs: Given, settings: Settings) -> Stage:
    """Makes `critiques`, a folder with a JSONL file per shard."""
    return Stage(
        name=name,
        run=write_critiques,
        needs={"pairs": pairs, **served_teacher.needs(settings, name)},
        makes=(Artifact("critiques"),),
        on=settings.on,
        validate=served_teacher.validate,
        config=settings,
        prompts=(KINDS[settings.contract].prompt,),
        array=settings.shards,
        disk=disk,
    )


def write_critiques(run: StageRun) -> None:
    from proxygrm.teacher.distill import distill

    settings: Settings = run.config
    folder = run.out / "critiques"
    folder.mkdir(parents=True, exist_ok=True)
    rates = ("--error-rate", str(settings.error_rate), "--fog-error-rate", str(settings.fog_error_rate))
    with served_teacher.called(run, RuleBased("rule-judge", "proxygrm.demo.rule_judge", rates)) as teacher:
        asyncio.run(
            distill(
                pairs_dir=run.inputs["pairs"],
                out_file=folder / f"shard-{run.cell:03d}.jsonl",
                endpoint=teacher.url,
                model=teacher.model,
                shard=run.cell,
                shards=settings.shards,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                concurrency=settings.concurrency,
                timeout_s=settings.timeout_s,
                api_key_file=teacher.api_key_file,
                on_progress=run.progress,
                contract=settings.contract,
                tries=settings.tries,
                seed=settings.seed,
            )
        )


def disk(stage: Stage, need: Needs) -> Space:
    """A critique for each pair and try, as long as it may be."""
    settings = stage.config
    rows = need("pairs").rows * settings.tries
    size = rows * (settings.max_tokens * TOKEN + ROW)
    return Space(size, {"critiques": Amount(size, rows)})
