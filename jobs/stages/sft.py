"""Fine-tuning with ms-swift: supervised, or on preferences (`command`), of all weights or with LoRA (`tuner_type`)."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.checkpoints.adapter import check_adapter
from proxygrm.sft.settings import SftSettings
from slurm.profile import Profile


@dataclass(frozen=True)
class Settings(OnNodes, SftSettings):
    pass


def stage(name: str, *, start: str | Output, data: Given | Output, settings: Settings) -> Stage:
    """data: ms-swift JSONL. Makes `model`; with `tuner_type` lora `adapter`, for the merge stage."""
    check = check_adapter if settings.tuner_type == "lora" else checks.check_checkpoint
    return Stage(
        name=name,
        run=train,
        needs={"start": checks.checkpoint(start, name, settings.trust_remote_code), "data": data},
        makes=(Artifact(settings.makes, check=check),),
        on=settings.on,
        validate=validate,
        config=settings,
        leftovers=("swift/checkpoint-*", "swift/last-checkpoint"),
    )


def train(run: StageRun) -> None:
    from jobs.stages.sft_on_nodes import train_on_nodes
    from proxygrm.sft.train import train_sft

    if run.nodes > 1:
        train_on_nodes(run)
        return
    train_sft(
        run.config,
        run.inputs["start"],
        run.inputs["data"],
        run.out,
        device=run.profile.node.device,
        gpus_per_node=run.stage.on.gpus_per_node,
        progress=run.progress,
    )


def validate(stage: Stage, profile: Profile) -> None:
    stage.config.check_installed()
