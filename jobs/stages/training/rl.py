"""RL with verl on N nodes, and auxiliary services (the frozen proxy is one) on nodes (or GPUs) of their own.

Every node runs `train`; together they are one Ray cluster. Node 0 then drives: all services healthy first,
then the trainer; the first death of anything ends the job with the name of its node.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.engine.run_folder.records import read_json
from jobs.engine.run_folder.stage_folder import MADE_OF
from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space, Unknown, training
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.checkpoints.best import BEST
from proxygrm.core.errors import UserError
from proxygrm.core.settings import values_of
from proxygrm.rl.config import RlSettings
from proxygrm.serving.services.running import refuse_duplicates, running
from proxygrm.serving.services.service import Running, Service, ServiceNode, Surroundings
from slurm.profile import Profile
from slurm.ray.plan import ClusterPlan, NodeRecord, Share, plan_cluster

if TYPE_CHECKING:
    from slurm.ray.handle import RayHandle

LOGGER = logging.getLogger(__name__)
LOOK_S = 5.0
"""How often the trainer's log is read for progress."""
ROLLOUT, METRICS = 600, 10_000
"""Bytes of a rollout's reward and its parts, and of a step's metrics."""
CPU_SLOTS = 16
"""CPUs that Ray hands out on a virtual node: names only, the machine has what it has."""


@dataclass(frozen=True)
class Settings(OnNodes, RlSettings):
    """What `--set STAGE.NAME=VALUE` can change."""


@dataclass(frozen=True)
class Job(Settings):
    """What the stage is made of: its settings, and what the recipe gives it besides."""

    services: Mapping[str, Service] = field(default_factory=dict)
    """By name; what they need is in the stage's `needs` instead."""

    @classmethod
    def of(cls, settings: Settings, services: Sequence[Service]) -> Job:
        without_needs = {each.name: replace(each, needs=dict.fromkeys(each.needs, "")) for each in services}
        return cls(**values_of(settings, Settings), services=without_needs)

    def shares(self) -> tuple[Share, ...]:
        return tuple(Share(each.name, each.nodes, each.shared_gpus(self.on.nodes)) for each in self.services.values())


def stage(
    name: str,
    *,
    policy: str | Output,
    train: Given | Output,
    validation: Given | Output,
    settings: Settings,
    services: Sequence[Service] = (),
) -> Stage:
    """train, validation: verl parquet. services: servers that run beside the trainer for as long as it does, on the
    last nodes in this order. Makes `policy`, with validation `best` (`settings.chosen` of the two is
    for the chain), and `metrics.jsonl`. UserError: service.duplicate-name.
    """
    refuse_duplicates(services)
    needs = {"policy": checks.checkpoint(policy, name, settings.trust_remote_code)}
    if settings.reward.input:  # in the fingerprint by its content, and not by its path
        needs["reward"] = Given(settings.reward.input, check=settings.reward.check_input)
    for service in services:
        for label, need in service.needs.items():
            needs[f"{service.name}.{label}"] = need if isinstance(need, Given | Output) else Given(str(need))
    return Stage(
        name=name,
        run=train_grpo,
        needs={**needs, "train": train, "validation": validation},
        makes=(
            Artifact("policy", check=checks.check_checkpoint),
            *([Artifact(BEST, check=checks.check_checkpoint)] if settings.eval_steps else []),
            Artifact("metrics.jsonl"),
        ),
        on=settings.on,
        validate=validate,
        config=Job.of(replace(settings, reward=settings.reward.with_input("")), services),
        prompts=tuple(dict.fromkeys([*settings.reward.prompts, *(p for service in services for p in service.prompts)])),
        leftovers=("checkpoints",),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """verl's last checkpoints, all in 32 bits: the weights for itself and for others, two moments. Every rollout, as
    long as it may be. While it runs, a copy of the rows."""
    settings, parameters = stage.config, need("policy").parameters
    if not parameters:
        raise Unknown("the start checkpoint has no safetensors")
    try:
        train, validation = need("train"), need("validation")
    except Unknown:
        if not settings.max_steps:
            raise
        train = validation = Amount(0)  # beside the checkpoints it hardly counts
    if not (settings.max_steps or train.rows):
        raise Unknown("nobody knows how many rows it trains on")
    steps = settings.max_steps or settings.num_train_epochs * train.rows // settings.train_batch_size
    rollouts = steps * settings.train_batch_size * settings.n * (settings.max_response_length * TOKEN + ROLLOUT)
    policy = Amount(4 * parameters, parameters=parameters)
    makes = {"policy": policy, BEST: policy, "metrics.jsonl": Amount(steps * METRICS)}
    checkpoints = training(16 * parameters, settings.save_total_limit, steps, settings.save_steps)
    checkpoints += policy.size if settings.eval_steps else 0
    return Space(checkpoints + rollouts + train.size + validation.size + steps * METRICS, makes)


def train_grpo(run: StageRun) -> None:
    train(run, run.config, run.out)


def train(run: StageRun, settings: Job, out: Path) -> None:
    """One RL run into `out`: `policy/` (HF checkpoint), `metrics.jsonl`, `checkpoints/`, `rollouts/`, logs."""
    from proxygrm.rl.cpu.started import nursery
    from proxygrm.rl.train import finish, stopped_early
    from slurm.ray.cluster import ClusterOptions, run_in_cluster

    if stopped_early(out):  # by an earlier attempt: what is left needs no trainer
        if run.rank == 0:
            finish(out, run.inputs["policy"], settings)
        return
    node, on = run.profile.node, run.stage.on
    settings = with_reward_file(run, settings)
    settings.check_policy(run.inputs["policy"], node.device)
    for service in settings.services.values():
        service.check_inputs(inputs_of(service, run.inputs), node.device)
    cpu = node.device == "cpu"
    options = ClusterOptions(
        gpus_per_node=on.gpus_per_node,
        shares=settings.shares(),
        cpus=CPU_SLOTS if cpu else on.cpus_per_task,
        device=node.device,
        interface=node.interface,
        object_store_mb=200 if cpu else min(on.mem_gb * 300, 200_000),  # 30 % of the memory, at most 200 GB
    )

    def drive(handle: RayHandle) -> None:
        def here(service: Service) -> Surroundings:
            return surroundings(service, run, handle.plan, out)

        with (
            nursery(out) if cpu else nullcontext() as socket,  # it gets ready while the services start
            running(settings.services.values(), here, handle.watch, lambda line: run.progress(0, 0, line)) as services,
        ):
            run_trainer(handle, run, settings, out, services, socket)

    run_in_cluster(run.rank, run.nodes, out / "ray", options, drive)


def with_reward_file(run: StageRun, settings: Job) -> Job:
    """The settings with the reward's file, checked on every node. A run is rewarded by one function from its first step
    to its last: edited since it was sent, or between two attempts, the file is refused."""
    if "reward" not in run.inputs:
        return settings
    need, path, sent = run.stage.needs["reward"], run.inputs["reward"], read_json(run.out / MADE_OF) or {}
    if isinstance(need, Given) and sent.get("needs", {}).get("reward") not in (None, need.identity()):
        raise UserError(
            f"{path} has changed since {run.stage.name} was sent; undo the change, or submit again",
            code="rl.reward-changed",
            path=path,
        )
    settings.reward.check_input(path)
    return replace(settings, reward=settings.reward.with_input(path))


def inputs_of(service: Service, inputs: Mapping[str, Path]) -> dict[str, Path]:
    """A service's needs by its own labels."""
    return {label: inputs[f"{service.name}.{label}"] for label in service.needs}


def surroundings(service: Service, run: StageRun, plan: ClusterPlan, out: Path) -> Surroundings:
    from proxygrm.rl.images import image_folder

    return Surroundings(
        nodes=nodes_of(service, plan),
        inputs=inputs_of(service, run.inputs),
        folder=out / service.folder,
        device=run.profile.node.device,
        images=lambda: image_folder(run.inputs["train"], run.inputs["validation"]),
        one_node=len(plan.nodes) == 1,
    )


def nodes_of(service: Service, plan: ClusterPlan) -> tuple[ServiceNode, ...]:
    """Those that run it, as it sees them."""
    serving = plan.serving(service.name)
    return tuple(ServiceNode(node.name, node.address, node.services[service.name]) for node in serving)


def run_trainer(
    handle: RayHandle,
    run: StageRun,
    settings: Job,
    out: Path,
    services: Mapping[str, Running],
    nursery: Path | None,
) -> None:
    """verl's own trainer as a child process; running it again continues from its last checkpoint."""
    from proxygrm.core.runtime.save_now import SaveNow
    from proxygrm.rl.checkpoints import prune
    from proxygrm.rl.train import explain, finish, look, stopped_early, train_grpo_command
    from proxygrm.serving.replicas.group import ProxyGroup

    device, trainers = run.profile.node.device, handle.plan.trainers
    fitted = settings.fitted(len(trainers) * trainers[0].trainer_gpus)
    if fitted != settings:
        names = ("train_batch_size", "ppo_mini_batch_size", "ppo_micro_batch_size_per_gpu")
        sizes = ", ".join(f"{name} {getattr(fitted, name)}" for name in names)
        LOGGER.info("%s: what the GPUs can share evenly", sizes)
    command, environment = train_grpo_command(
        fitted,
        model=run.inputs["policy"],
        train_file=run.inputs["train"],
        val_file=run.inputs["validation"],
        out=out,
        ray_address=handle.address,
        nnodes=len(trainers),
        gpus_per_node=trainers[0].trainer_gpus,
        run_name=f"{run.run_dir.name}-{out.name}",
        device=device,
        endpoints=next((each.endpoints_file for each in services.values() if isinstance(each, ProxyGroup)), None),
        services={name: each.urls for name, each in services.items() if not isinstance(each, ProxyGroup)},
        service_keys={name: each.key_file for name, each in services.items() if each.key_file},
        nursery=nursery,
        attempt=len(list((out / "verl_metrics").glob("attempt_*"))),
    )
    log, looked = out / "trainer.log", 0.0

    def watch() -> None:
        nonlocal looked
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            run.progress(*look(out, settings, log.read_text(errors="replace")))
            prune(out / "checkpoints", settings.save_total_limit)

    try:
        handle.run(command, environment, log, watch, out)
    except UserError as error:
        if stopped_early(out) and SaveNow(out).read_answer():
            finish(out, run.inputs["policy"], settings)
            return
        message = explain(out, log.read_text(errors="replace"))
        raise UserError(message or str(error), code=error.code or "rl.failed", **error.values) from error
    finish(out, run.inputs["policy"], settings)
    prune(out / "checkpoints", settings.save_total_limit)


def validate(stage: Stage, profile: Profile) -> None:
    """Nodes and GPUs shared out as the job does it (`train` here, `Service.start`), with made-up nodes."""
    settings, on = stage.config, stage.on
    if (needed := settings.reward.asks) and needed not in settings.services:
        raise UserError(
            f"reward={settings.reward.kind} asks a service {needed!r}, but the stage has none of that name",
            code="rl.no-service",
            name=needed,
            known=list(settings.services),
        )
    if settings.reward.reads_file and "reward" not in stage.needs:
        raise UserError(
            f"reward={settings.reward.kind} needs its file: --set {stage.name}.reward.file=PATH",
            code="rl.no-reward-file",
        )
    nodes = [NodeRecord(rank, f"node {rank}", f"address {rank}") for rank in range(on.nodes)]
    roles = plan_cluster(nodes, on.gpus_per_node, settings.shares())
    for service in settings.services.values():
        service.validate(nodes_of(service, roles), profile.node.device)
        if runs_programs_of_this_machine(profile):
            service.check_program()
    devices = sum(node.trainer_gpus for node in roles.trainers)
    if not devices:
        raise UserError("no GPU to train on; ask for GPUs (gpus_per_node)", code="rl.no-gpu")
    fitted = settings.fitted(devices)
    fitted.check_against(rows=fitted.train_batch_size, devices=devices)


def runs_programs_of_this_machine(profile: Profile) -> bool:
    """Whether jobs find the same programs as this process: no container, and nothing that changes their PATH."""
    environment = profile.environment
    changed = environment.modules or environment.venv or environment.setup or "PATH" in environment.variables
    return not (profile.container.runtime or changed)
