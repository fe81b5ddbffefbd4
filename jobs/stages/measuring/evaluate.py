"""Evaluation: held-out pairs, judged by each model, and where there is a proxy by it from each model's rubrics.

One element judges with all models, one after the other. With `shards` a job array judges, and a small stage merges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.critique.contracts import PROXY_GRM
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.settings import PROMPTS, EvaluateSettings
from slurm.profile import Profile

if TYPE_CHECKING:
    from proxygrm.evaluate.models import Evaluation

ANSWERS = "answers"
OTHER_NEEDS = ("held_out", "proxy", ANSWERS)
"""What the stages need beside the models."""
ROW = 600
"""Bytes of a judgement's other fields."""


@dataclass(frozen=True)
class Settings(OnNodes, EvaluateSettings):
    judge: str = ""
    """A checkpoint that decides by the rubrics, by path or hub name; empty takes the recipe's own proxy. One that no
    training has asked makes the rubrics of differently trained models comparable."""
    shards: int = 1
    """Elements of the job array that share the pairs. Each loads every model; 1 judges and merges in one job."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("evaluate", self, from_one=("shards",))


def stages(
    name: str,
    *,
    held_out: Given | Output,
    models: Mapping[str, str | Output],
    settings: Settings,
    proxy: str | Output | None = None,
) -> list[Stage]:
    """The last one is called `name` and makes `summary.json` and MODEL.jsonl of each; with several shards, the array
    `NAME_shards` comes before it. models: by their names, in the order they are judged in."""
    for model in models:
        check_file_name(model, reserved=OTHER_NEEDS)
    decides = settings.judge or proxy
    if decides and settings.contract != PROXY_GRM:
        raise UserError(
            f"{name}: contract is {settings.contract!r}, whose answers have no rubric for the proxy to judge by",
            code="settings.contradiction",
            contract=settings.contract,
        )
    trusted = settings.trust_remote_code
    whole = Stage(
        name=name,
        run=judge_and_merge,
        needs={
            "held_out": held_out,
            **({"proxy": checks.checkpoint(decides, name, trusted)} if decides else {}),
            **{label: checks.checkpoint(model, name, trusted) for label, model in models.items()},
        },
        makes=(Artifact("summary.json"),),
        on=settings.on,
        validate=validate,
        config=replace(settings, judge=""),  # in the fingerprint as a need, by its content
        prompts=(PROMPTS[settings.contract], *(("proxy",) if decides else ())),
        disk=disk,
    )
    return in_shards(whole, settings.shards, judge, merge)


def in_shards(
    whole: Stage, shards: int, judge: Callable[[StageRun], None], merge: Callable[[StageRun], None]
) -> list[Stage]:
    """The stage itself, or an array that makes the answers and a stage of its name, without GPUs, that merges them."""
    if shards == 1:
        return [whole]
    array = replace(whole, name=f"{whole.name}_shards", run=judge, makes=(Artifact(ANSWERS),), array=shards)
    on = whole.on  # loading no model, the merge needs less
    small = replace(on, nodes=1, gpus_per_node=0, cpus_per_task=min(2, on.cpus_per_task), mem_gb=min(16, on.mem_gb))
    needs = {**whole.needs, ANSWERS: array / ANSWERS}
    return [array, replace(whole, run=merge, needs=needs, on=small, validate=None)]


def disk(stage: Stage, need: Needs) -> Space:
    """Answers of each model and of the proxy."""
    models = sum(label not in OTHER_NEEDS for label in stage.needs)
    tokens = stage.config.max_tokens + (stage.config.proxy_max_tokens if "proxy" in stage.needs else 0)
    return answers_space(stage, need("held_out").rows, models, tokens)


def answers_space(stage: Stage, rows: int, models: int, tokens: int) -> Space:
    """Answers twice: as they arrive, and as rows with what was made of them. rows: pairs; tokens: of all answers to one
    judgement, at the most."""
    settings = stage.config
    judged = min(rows, settings.max_pairs or rows) * (1 + settings.both_orders) * settings.votes
    copies = 1 if ANSWERS in (*stage.needs, stage.makes[0].path) else 2  # the shards write one, their merge the other
    return Space(copies * models * judged * (tokens * TOKEN + ROW), {stage.makes[0].path: Amount(0, judged)})


def judge_and_merge(run: StageRun) -> None:
    from proxygrm.evaluate.models import judge_models, merge_models

    evaluation = _evaluation(run, run.out / ANSWERS)
    judge_models(evaluation, progress=run.progress)
    merge_models(evaluation, run.out)


def judge(run: StageRun) -> None:
    """One shard."""
    from proxygrm.evaluate.models import judge_models

    judge_models(_evaluation(run, run.out / ANSWERS), run.cell, run.stage.array, run.progress)


def merge(run: StageRun) -> None:
    from proxygrm.evaluate.models import merge_models

    merge_models(_evaluation(run, run.inputs[ANSWERS]), run.out)


def _evaluation(run: StageRun, answers: Path) -> Evaluation:
    from proxygrm.evaluate.models import Evaluation

    models = {label: path for label, path in run.inputs.items() if label not in OTHER_NEEDS}
    return Evaluation(models, run.inputs.get("proxy"), run.inputs["held_out"], answers, run.config)


def validate(stage: Stage, profile: Profile) -> None:
    checks.on_one_node(stage, profile, "; more machines share the work by `shards`")
    checks.serves_here(stage, profile, stage.config.tensor_parallel_size)
