"""Export: trained scalar reward models for others, each with its card and code that loads it without this suite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.engine.space.amounts import Needs, Space
from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun, plain
from jobs.stages import checks
from jobs.stages.measuring import ensemble
from jobs.stages.training import sft
from slurm.sbatch import Resources

ROWS, SCORES = "rows", "scores"
CARD = 1_000_000
"""Bytes of a card and the scripts, at the most."""


@dataclass(frozen=True)
class Made(OnNodes):
    """What the cards say of the training."""

    backbones: Mapping[str, str]
    """Start checkpoint of each model, by the model's name."""
    training: Mapping[str, object]
    devices: int


def stage(
    name: str,
    *,
    models: Mapping[str, str | Output],
    backbones: Mapping[str, str],
    training: sft.Settings,
    rows: Output,
    scores: Stage,
    on: Resources,
) -> Stage:
    """rows: the report of the training rows; scores: the stage that scored all models. Makes MODEL/ of each."""
    settings = {key: value for key, value in plain(training).items() if key != "on"}
    devices = training.on.nodes * max(1, training.on.gpus_per_node)
    summaries = {made.path.removesuffix(f"/{ensemble.SUMMARY}"): scores / made.path for made in scores.makes}
    return Stage(
        name=name,
        run=write,
        needs={
            **{label: checks.checkpoint(model, name, trust_remote_code=False) for label, model in models.items()},
            **{f"{SCORES}:{label}": summary for label, summary in summaries.items()},
            ROWS: rows,
        },
        makes=tuple(Artifact(label, check=checks.check_checkpoint) for label in models),
        on=on,
        validate=checks.on_one_node,
        config=Made(backbones, settings, devices, on=on),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The models are hard links."""
    return Space(CARD * len(stage.makes))


def write(run: StageRun) -> None:
    from proxygrm.report.model_card import Card, card_text
    from proxygrm.scalar.export import export_model

    made: Made = run.config
    summaries = {
        label.removeprefix(f"{SCORES}:"): json.loads(path.read_text(encoding="utf-8"))
        for label, path in run.inputs.items()
        if label.startswith(f"{SCORES}:")
    }
    held_out = summaries.pop(ensemble.SUMMARY)
    rows = json.loads(run.inputs[ROWS].read_text(encoding="utf-8"))
    for done, (name, backbone) in enumerate(made.backbones.items()):
        run.progress(done, len(made.backbones), name)
        benchmarks = {figures[name]["bench"]: figures[name] for figures in summaries.values()}
        card = Card(name, backbone, made.training, made.devices, rows, held_out[name], benchmarks)
        export_model(run.inputs[name], run.out / name, card_text(card))
