"""GRPO with verl on N nodes, and the frozen proxy's vLLM replicas on nodes (or GPUs) of their own.

Every node runs `train`; together they are one Ray cluster. Node 0 then drives: proxy replicas healthy first,
then the trainer; the first death of anything ends the job with the name of its node.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.engine.run_folder.ledger import MADE_OF
from jobs.engine.run_folder.records import read_json
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.rewards.base import PROXY
from proxygrm.rl.config import RlSettings
from proxygrm.serving.settings import ProxySettings
from slurm.profile import Profile

if TYPE_CHECKING:
    from slurm.ray.handle import RayHandle

LOGGER = logging.getLogger(__name__)
LOOK_S = 5.0
"""How often the trainer's log is read for progress."""
CPU_SLOTS = 16
"""CPUs that Ray hands out on a virtual node: names only, the machine has what it has."""


@dataclass(frozen=True)
class Settings(OnNodes, RlSettings):
    proxy: ProxySettings | None = None
    """The frozen judge's servers; not used by a reward that does not ask it."""
    proxy_nodes: int = 0
    """Nodes of the job that serve the proxy and do not train; with one node in all, its GPUs are shared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("rl", self, from_zero=("proxy_nodes",))

    @property
    def servers(self) -> ProxySettings | None:
        """How the proxy is served; None when it is not asked."""
        return self.proxy if self.reward.asks == PROXY else None

    def check_checkpoints(self, policy: Path, proxy: Path | None, device: str) -> None:
        """UserError, before anything is started, for lengths or GPUs that a checkpoint does not allow."""
        self.check_policy(policy, device)
        if self.servers and proxy is not None:
            self.servers.fitted(proxy, device)


def stage(
    name: str,
    *,
    policy: str | Output,
    train: Given | Output,
    validation: Given | Output,
    settings: Settings,
    proxy: str | Output | None = None,
) -> Stage:
    """train, validation: verl parquet. proxy: the frozen judge of the rubrics. Makes `policy` and `metrics.jsonl`."""
    needs = {"policy": checks.checkpoint(policy, name, settings.trust_remote_code)}
    if settings.reward.input:  # in the fingerprint by its content, and not by its path
        needs["reward"] = Given(settings.reward.input, check=settings.reward.check_input)
    prompts: tuple[str, ...] = ()
    if proxy is not None and settings.proxy is not None:
        needs["proxy"] = checks.checkpoint(proxy, f"{name}.proxy", settings.proxy.trust_remote_code)
        prompts = ("proxy", "proxy_verdict") if settings.proxy.mode == "verdict" else ("proxy",)
    return Stage(
        name=name,
        run=train_grpo,
        needs={**needs, "train": train, "validation": validation},
        makes=(Artifact("policy", check=checks.check_checkpoint), Artifact("metrics.jsonl")),
        on=settings.on,
        validate=validate,
        config=replace(settings, reward=settings.reward.with_input("")),
        prompts=prompts,
    )


def train_grpo(run: StageRun) -> None:
    train(run, run.config, run.out)


def train(run: StageRun, settings: Settings, out: Path) -> None:
    """One RL run into `out`: `policy/` (HF checkpoint), `metrics.jsonl`, `checkpoints/`, `rollouts/`, logs."""
    from slurm.ray.cluster import ClusterOptions, run_in_cluster

    node, on, servers = run.profile.node, run.stage.on, settings.servers
    settings = with_reward_file(run, settings)
    settings.check_checkpoints(run.inputs["policy"], run.inputs.get("proxy"), node.device)
    cpu = node.device == "cpu"
    options = ClusterOptions(
        gpus_per_node=on.gpus_per_node,
        proxy_nodes=settings.proxy_nodes if servers else 0,
        shared_proxy_gpus=servers.replicas * servers.tensor_parallel_size if servers else 0,
        cpus=CPU_SLOTS if cpu else on.cpus_per_task,
        device=node.device,
        interface=node.interface,
        object_store_mb=200 if cpu else min(on.mem_gb * 300, 200_000),  # 30 % of the memory, at most 200 GB
    )

    def drive(handle: RayHandle) -> None:
        with worker_nursery(node.device, out) as nursery:
            drive_with(handle, nursery)

    def drive_with(handle: RayHandle, nursery: Path | None) -> None:
        if servers is None:
            run_trainer(handle, run, settings, out, None, nursery)
            return
        from proxygrm.rl.images import image_folder
        from proxygrm.serving.replicas.group import ProxyGroup

        run.progress(0, 0, "starting the proxy's replicas")
        group = ProxyGroup.start(
            handle,
            handle.plan.nodes,
            run.inputs["proxy"],
            servers,
            out / "proxy",
            device=node.device,
            images=image_folder(run.inputs["train"], run.inputs["validation"]),
            on_message=lambda line: run.progress(0, 0, line),
        )
        try:
            run_trainer(handle, run, settings, out, group.endpoints_file, nursery)
        finally:
            group.stop()

    run_in_cluster(run.rank, run.nodes, out / "ray", options, drive)


def with_reward_file(run: StageRun, settings: Settings) -> Settings:
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


@contextmanager
def worker_nursery(device: str, out: Path) -> Iterator[Path | None]:
    """On CPUs: a process with everything imported that Ray's workers are forked from, because on a small machine
    the start of a training is almost all imports. It gets ready while the proxy starts."""
    if device != "cpu":
        yield None
        return
    from proxygrm.core.runtime.child_process import ChildProcess
    from proxygrm.rl.train import nursery_command

    folder = Path(tempfile.mkdtemp(prefix="pgnursery-"))
    command, environment = nursery_command(folder / "socket", out)
    try:
        with ChildProcess(command, out / "nursery.log", environment={**os.environ, **environment}, grace_s=10.0):
            yield folder / "socket"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_trainer(
    handle: RayHandle, run: StageRun, settings: Settings, out: Path, endpoints: Path | None, nursery: Path | None
) -> None:
    """verl's own trainer as a child process; running it again continues from its last checkpoint."""
    from proxygrm.core.errors import UserError
    from proxygrm.rl.train import collect_metrics, explain, finish, progress, train_grpo_command

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
        endpoints=endpoints,
        nursery=nursery,
        attempt=len(list((out / "verl_metrics").glob("attempt_*"))),
    )
    log, looked = out / "trainer.log", 0.0

    def look() -> None:
        nonlocal looked
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            run.progress(*progress(log.read_text(errors="replace"), collect_metrics(out)))

    try:
        handle.run(command, environment, log, look, out)
    except UserError as error:
        message = explain(out, log.read_text(errors="replace"))
        raise UserError(message or str(error), code=error.code or "rl.failed", **error.values) from error
    finish(out, run.inputs["policy"])


def validate(stage: Stage, profile: Profile) -> None:
    """Nodes and GPUs shared out as the job does it (`train` here, `proxygrm.serving.replicas.group`), with made-up
    nodes."""
    from proxygrm.serving.replicas.placement import place_replicas
    from slurm.ray.plan import NodeRecord, plan_cluster

    settings, on, cpu = stage.config, stage.on, profile.node.device == "cpu"
    servers = settings.servers
    if settings.reward.asks == PROXY and servers is None:
        raise UserError(f"reward={settings.reward.kind} asks a proxy, but the stage has none", code="rl.no-proxy")
    if settings.reward.reads_file and "reward" not in stage.needs:
        raise UserError(
            f"reward={settings.reward.kind} needs its file: --set {stage.name}.reward.file=PATH",
            code="rl.no-reward-file",
        )
    nodes = [NodeRecord(rank, f"node {rank}", f"address {rank}") for rank in range(on.nodes)]
    shared = servers.replicas * servers.tensor_parallel_size if servers else 0
    roles = plan_cluster(nodes, on.gpus_per_node, settings.proxy_nodes if servers else 0, shared)
    if servers:
        place_replicas(roles.proxies, servers.replicas, 1 if cpu else servers.tensor_parallel_size)
    devices = sum(node.trainer_gpus for node in roles.trainers)
    if not devices:
        raise UserError("no GPU to train on; ask for GPUs (gpus_per_node)", code="rl.no-gpu")
    fitted = settings.fitted(devices)
    fitted.check_against(rows=fitted.train_batch_size, devices=devices)
