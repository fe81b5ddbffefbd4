"""Reward ablations: one RL run a cell, all cells at once as a job array, then one evaluation of all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs import rl
from jobs.stage import Check, StageRun
from proxygrm.checkpoints import is_hf_checkpoint


@dataclass(frozen=True)
class Settings:
    rl: rl.Settings
    aggregations: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    aggregations: tuple[str, ...]
    evaluate: Any


def cell_name(aggregation: str) -> str:
    return f"aggregation-{aggregation}"


def every_cell(aggregations: tuple[str, ...]) -> Check:
    def check(folder: Path) -> None:
        for aggregation in aggregations:
            is_hf_checkpoint(folder / cell_name(aggregation) / "policy")

    return check


def train_cell(run: StageRun) -> None:
    aggregation = run.config.aggregations[run.cell]
    settings = replace(run.config.rl, grpo=replace(run.config.rl.grpo, aggregation=aggregation))
    rl.train(run, settings, run.out / "cells" / cell_name(aggregation))


def judge_cells(run: StageRun) -> None:
    from proxygrm.evaluate import evaluate_models

    models = {name: run.inputs["cells"] / cell_name(name) / "policy" for name in run.config.aggregations}
    settings = run.config.evaluate
    evaluate_models(models, run.inputs["proxy"], run.inputs["held_out"], run.out, settings, run.progress)
