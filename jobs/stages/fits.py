"""Whether a stage's own settings fit the nodes it asks for: what the job would find out, said by the plan instead.

An RL job that cannot share its GPUs between trainer and proxy is sent together with the distillation and the SFT
before it, and would fail when those have used their GPU-hours. Functions here are parts of a stage's `validate`.
"""

from __future__ import annotations

from jobs.engine.stage import Stage
from proxygrm.core.errors import UserError
from slurm.profile import Profile


def on_one_node(stage: Stage, profile: Profile, more: str = "") -> None:
    """Of a stage that knows of no other node: on two of them, both would do the whole work, into one folder."""
    if stage.on.nodes > 1:
        raise UserError(f"it works on one node{more}; only RL spreads over several")


def serves_here(stage: Stage, profile: Profile, gpus: int) -> None:
    """gpus: of the model that the stage serves on its own node."""
    if profile.node.device != "cpu" and gpus > stage.on.gpus_per_node:
        raise UserError(f"it serves a model on {gpus} GPUs (tensor_parallel)")
