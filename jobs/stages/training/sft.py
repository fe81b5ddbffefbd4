"""Fine-tuning with ms-swift: supervised, or on preferences (`command`), of all weights or with LoRA (`tuner_type`)."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.space.amounts import Amount, Needs, Space, Unknown, training
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.checkpoints.adapter import check_adapter
from proxygrm.core.checkpoints.best import BEST
from proxygrm.sft.settings import SftSettings
from slurm.profile import Profile

SIZE_OF = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number."""
MATRIX = 1024
"""Sides of a model's matrices are longer, so a LoRA adapter of rank r has less than 2 r / MATRIX of its parameters."""


@dataclass(frozen=True)
class Settings(OnNodes, SftSettings):
    pass


def stage(
    name: str,
    *,
    start: str | Output,
    data: Given | Output,
    settings: Settings,
    validation: Given | Output | None = None,
) -> Stage:
    """data: ms-swift JSONL; validation: rows for the evaluation loss, instead of a share of the others. Makes `model`
    (with `tuner_type` lora `adapter`, for the merge stage) and with an evaluation `best`; `settings.chosen` of the two
    is for the chain."""
    check = check_adapter if settings.tuner_type == "lora" else checks.check_checkpoint
    settings.check_evaluated(validation is not None)
    makes = [settings.makes, *([BEST] if settings.evaluates(validation is not None) else [])]
    needs = {"start": checks.checkpoint(start, name, settings.trust_remote_code), "data": data}
    return Stage(
        name=name,
        run=train,
        needs=needs | ({"validation": validation} if validation else {}),
        makes=tuple(Artifact(each, check=check) for each in makes),
        on=settings.on,
        validate=validate,
        config=settings,
        leftovers=("swift/checkpoint-*", "swift/torn_checkpoint-*", "swift/last-checkpoint"),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The last checkpoints with the optimizer's states: with DeepSpeed the weights twice and 12 bytes a parameter (its
    weights, two moments), else two moments in the weights' precision. Frozen parts count as if they were trained."""
    settings, model = stage.config, need("start")
    if not model.parameters:
        raise Unknown("the start checkpoint has no safetensors")
    number, trained = SIZE_OF[settings.torch_dtype], model.parameters
    if settings.tuner_type == "lora":
        trained = min(trained, trained * 2 * settings.lora_rank // MATRIX)
    each = trained * (2 * number + 12 if settings.deepspeed else 3 * number)
    makes = dict.fromkeys((settings.makes, BEST), Amount(trained * number, parameters=trained))
    return Space(training(each, settings.save_total_limit, settings.max_steps or None, settings.save_steps), makes)


def train(run: StageRun) -> None:
    from jobs.stages.training.sft_on_nodes import train_on_nodes
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
        validation=run.inputs.get("validation"),
    )


def validate(stage: Stage, profile: Profile) -> None:
    stage.config.check_installed()
