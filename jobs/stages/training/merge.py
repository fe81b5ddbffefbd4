"""Merge: a LoRA adapter and its start checkpoint become one complete checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.engine.space.amounts import Needs, Space
from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from jobs.stages.training import sft


@dataclass(frozen=True)
class Settings(OnNodes):
    max_shard_size: str = "5GB"
    """Of a file of weights."""
    trust_remote_code: bool = False
    """Run Python code of the checkpoint; otherwise a checkpoint with code is refused."""


def stage(name: str, *, start: str | Output, adapter: Output, settings: Settings) -> Stage:
    """start: the checkpoint that the adapter was trained on. Makes `model`."""
    return Stage(
        name=name,
        run=merge,
        needs={"start": checks.checkpoint(start, name, settings.trust_remote_code), "adapter": adapter},
        makes=(Artifact("model", check=checks.check_checkpoint),),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    start = need("start")
    return Space(start.size, {"model": start})


def trained(training: Stage, start: str | Output) -> tuple[list[Stage], Output]:
    """The stages of an SFT that end in a whole model, and the model: with LoRA there is a merge after it, `NAME_merge`,
    on one node like those of the training."""
    settings: sft.Settings = training.config
    if settings.tuner_type != "lora":
        return [training], training / settings.chosen
    merging = Settings(trust_remote_code=settings.trust_remote_code, on=replace(training.on, nodes=1))
    merged = stage(f"{training.name}_merge", start=start, adapter=training / settings.chosen, settings=merging)
    return [training, merged], merged / "model"


def merge(run: StageRun) -> None:
    from proxygrm.sft.merge import merge_lora

    merge_lora(
        run.inputs["start"],
        run.inputs["adapter"],
        run.out,
        device=run.profile.node.device,
        max_shard_size=run.config.max_shard_size,
        trust_remote_code=run.config.trust_remote_code,
        progress=run.progress,
    )
