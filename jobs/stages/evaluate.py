"""Evaluation: held-out pairs in both orders, before training, after SFT and after RL, and rubric transfer."""

from __future__ import annotations

from jobs.engine.stage import Stage, StageRun
from jobs.stages import fits
from slurm.profile import Profile

TAGS = {"start": "before training", "sft": "after SFT", "rl": "after RL"}


def judge_held_out(run: StageRun) -> None:
    from proxygrm.evaluate.judge import evaluate_models

    models = {label: run.inputs[label] for label in TAGS if label in run.inputs}  # a cell of an ablation has one
    evaluate_models(models, run.inputs["proxy"], run.inputs["held_out"], run.out, run.config, run.progress)


def validate(stage: Stage, profile: Profile) -> None:
    fits.on_one_node(stage, profile)
    fits.serves_here(stage, profile, stage.config.tensor_parallel)
