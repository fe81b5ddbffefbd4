"""Supervised fine-tuning with ms-swift: the proxy and the reward model, each from its own start checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.sft.arguments import SftSettings


@dataclass(frozen=True)
class Settings(OnNodes, SftSettings):
    pass


def stage(name: str, *, start: str | Output, data: Output, settings: Settings) -> Stage:
    """data: ms-swift JSONL. Makes `model`."""
    return Stage(
        name=name,
        run=train,
        needs={"start": checks.checkpoint(start, name, settings.trust_remote_code), "data": data},
        makes=(Artifact("model", check=checks.check_checkpoint),),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
    )


def train(run: StageRun) -> None:
    from proxygrm.sft.train import train_sft

    train_sft(
        run.config,
        run.inputs["start"],
        run.inputs["data"],
        run.out,
        device=run.profile.node.device,
        gpus_per_node=run.stage.on.gpus_per_node,
        progress=run.progress,
    )
