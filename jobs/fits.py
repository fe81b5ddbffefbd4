"""Whether a stage's own settings fit the nodes it asks for: what the job would find out, said by the plan instead.

An RL job that cannot share its GPUs between trainer and proxy is sent together with the distillation and the SFT
before it, and would fail when those have used their GPU-hours.
"""

from __future__ import annotations

from typing import Any

from jobs import distill, rl, split, transfer
from jobs.stage import Resources, Stage
from proxygrm.errors import UserError
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.proxy.placement import place_replicas
from proxygrm.sft.arguments import SftSettings
from slurm.profile import Profile
from slurm.ray.plan import NodeRecord, plan_cluster

ON_ONE_NODE = (distill.Settings, split.Settings, SftSettings, EvaluateSettings, transfer.Settings)
"""Settings of stages that know of no other node: on two of them, both would do the whole work, into one folder."""


def unfit(stage: Stage, profile: Profile) -> str | None:
    """Why the stage would fail on the nodes it asks for, in one line; None when nothing speaks against it."""
    cpu = profile.node.device == "cpu"
    try:
        if isinstance(stage.config, rl.Settings):
            _share_out(stage.config, stage.on, cpu)
        elif isinstance(stage.config, ON_ONE_NODE) and stage.on.nodes > 1:
            more = "; more machines share the work by `shards`" if isinstance(stage.config, distill.Settings) else ""
            raise UserError(f"it works on one node{more}; only RL spreads over several")
        wanted = 0 if cpu else _gpus_wanted(stage.config)
        if wanted > stage.on.gpus_per_node:
            raise UserError(f"it serves a model on {wanted} GPUs (tensor_parallel)")
    except UserError as error:
        nodes = f"{stage.on.nodes} node{'s' * (stage.on.nodes > 1)} x {stage.on.gpus_per_node} GPU"
        return f"{stage.name} on {nodes}: {error}"
    return None


def _gpus_wanted(config: Any) -> int:
    """GPUs of the model that a stage serves on its own node; 0 where it serves none."""
    if isinstance(config, distill.Settings):
        return 0 if distill.is_service(config.teacher) else config.sampling.tensor_parallel
    asking = config.asking if isinstance(config, transfer.Settings) else config
    return asking.tensor_parallel if isinstance(asking, EvaluateSettings) else 0


def _share_out(settings: rl.Settings, on: Resources, cpu: bool) -> None:
    """As the job does it (`jobs.rl`, `proxygrm.proxy.group`), with made-up nodes. Raises UserError."""
    grpo, proxy = settings.grpo, settings.proxy
    nodes = [NodeRecord(rank, f"node {rank}", f"address {rank}") for rank in range(on.nodes)]
    shared = proxy.replicas * proxy.tensor_parallel if grpo.use_proxy else 0
    roles = plan_cluster(nodes, on.gpus_per_node, settings.proxy_nodes if grpo.use_proxy else 0, shared)
    if grpo.use_proxy:
        place_replicas(roles.proxies, proxy.replicas, 1 if cpu else proxy.tensor_parallel)
    devices = sum(node.trainer_gpus for node in roles.trainers)
    if not devices:
        raise UserError("no GPU to train on; ask for GPUs (gpus_per_node)")
    fitted = grpo.fitted(devices)
    fitted.check_against(rows=fitted.batch, devices=devices)
