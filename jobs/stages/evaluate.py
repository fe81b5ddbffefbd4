"""Evaluation: held-out pairs in both orders, judged by each model, and by the proxy from each model's rubrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.settings import EvaluateSettings
from slurm.profile import Profile

OTHER_NEEDS = ("held_out", "proxy")
"""What the stage needs beside the models."""


@dataclass(frozen=True)
class Settings(OnNodes, EvaluateSettings):
    pass


def stage(
    name: str, *, held_out: Given, proxy: str | Output, models: Mapping[str, str | Output], settings: Settings
) -> Stage:
    """models: by their names, in the order they are judged in. Makes `summary.json` and MODEL.jsonl of each."""
    for model in models:
        check_file_name(model, reserved=OTHER_NEEDS)
    trusted = settings.trust_remote_code
    return Stage(
        name=name,
        run=judge_held_out,
        needs={
            "held_out": held_out,
            "proxy": checks.checkpoint(proxy, name, trusted),
            **{label: checks.checkpoint(model, name, trusted) for label, model in models.items()},
        },
        makes=(Artifact("summary.json"),),
        on=settings.on,
        validate=validate,
        config=settings,
        prompts=("grm", "proxy"),
    )


def judge_held_out(run: StageRun) -> None:
    from proxygrm.evaluate.models import evaluate_models

    models = {label: path for label, path in run.inputs.items() if label not in OTHER_NEEDS}
    evaluate_models(models, run.inputs["proxy"], run.inputs["held_out"], run.out, run.config, run.progress)


def validate(stage: Stage, profile: Profile) -> None:
    checks.on_one_node(stage, profile)
    checks.serves_here(stage, profile, stage.config.tensor_parallel_size)
