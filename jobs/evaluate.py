"""Evaluation: held-out pairs in both orders, before training, after SFT and after RL, and rubric transfer."""

from __future__ import annotations

from jobs.stage import StageRun

TAGS = {"start": "before training", "sft": "after SFT", "rl": "after RL"}


def judge_held_out(run: StageRun) -> None:
    from proxygrm.evaluate import evaluate_models

    models = {label: run.inputs[label] for label in TAGS if label in run.inputs}  # a cell of an ablation has one
    evaluate_models(models, run.inputs["proxy"], run.inputs["held_out"], run.out, run.config, run.progress)
