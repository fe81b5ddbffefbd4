"""GRPO with verl on N nodes, and the frozen proxy's vLLM replicas on nodes (or GPUs) of their own.

Every node runs `train`; together they are one Ray cluster. Node 0 then drives: proxy replicas healthy first,
then the trainer; the first death of anything ends the job with the name of its node.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.engine.stage import Stage, StageRun
from proxygrm.core.errors import UserError
from proxygrm.rl.config import RlSettings
from proxygrm.serving.settings import ProxySettings
from slurm.profile import Profile

if TYPE_CHECKING:
    from slurm.ray.cluster import RayHandle

LOOK_S = 5.0
"""How often the trainer's log is read for progress."""
CPU_SLOTS = 16
"""CPUs that Ray hands out on a virtual node: names only, the machine has what it has."""


@dataclass(frozen=True)
class Settings:
    """proxy: of the frozen judge; not used, nor are its nodes, when `grpo.use_proxy` is off."""

    grpo: RlSettings
    proxy: ProxySettings = field(default_factory=ProxySettings)
    proxy_nodes: int = 0

    def check_checkpoints(self, policy: Path, proxy: Path | None, device: str) -> None:
        """UserError, before anything is started, for lengths or GPUs that a checkpoint does not allow."""
        self.grpo.check_policy(policy, device)
        if self.grpo.use_proxy and proxy is not None:
            self.proxy.fitted(proxy, device)


def train_grpo(run: StageRun) -> None:
    train(run, run.config, run.out)


def train(run: StageRun, settings: Settings, out: Path) -> None:
    """One RL run into `out`: `policy/` (HF checkpoint), `metrics.jsonl`, `checkpoints/`, `rollouts/`, logs."""
    from slurm.ray.cluster import ClusterOptions, run_in_cluster

    node, on = run.profile.node, run.stage.on
    settings.check_checkpoints(run.inputs["policy"], run.inputs.get("proxy"), node.device)
    cpu = node.device == "cpu"
    options = ClusterOptions(
        gpus_per_node=on.gpus_per_node,
        proxy_nodes=settings.proxy_nodes if settings.grpo.use_proxy else 0,
        shared_proxy_gpus=settings.proxy.replicas * settings.proxy.tensor_parallel if settings.grpo.use_proxy else 0,
        cpus=CPU_SLOTS if cpu else on.cpus_per_node,
        device=node.device,
        interface=node.interface,
        object_store_mb=200 if cpu else min(on.memory_gb * 300, 200_000),  # 30 % of the memory, at most 200 GB
    )

    def drive(handle: RayHandle) -> None:
        with worker_nursery(node.device, out) as nursery:
            drive_with(handle, nursery)

    def drive_with(handle: RayHandle, nursery: Path | None) -> None:
        if not settings.grpo.use_proxy:
            run_trainer(handle, run, settings, out, None, nursery)
            return
        from proxygrm.rl.pictures import picture_folder
        from proxygrm.serving.replicas.group import ProxyGroup

        run.progress(0, 0, "starting the proxy's replicas")
        group = ProxyGroup.start(
            handle,
            handle.plan.nodes,
            run.inputs["proxy"],
            settings.proxy,
            out / "proxy",
            device=node.device,
            pictures=picture_folder(run.inputs["train"], run.inputs["validation"]),
            said=lambda line: run.progress(0, 0, line),
        )
        try:
            run_trainer(handle, run, settings, out, group.endpoints_file, nursery)
        finally:
            group.stop()

    run_in_cluster(run.rank, run.nodes, out / "ray", options, drive)


@contextmanager
def worker_nursery(device: str, out: Path) -> Iterator[Path | None]:
    """On CPUs: a process with everything imported that Ray's workers are forked from, because on a small machine
    the start of a training is almost all imports. It gets ready while the proxy starts."""
    if device != "cpu":
        yield None
        return
    from proxygrm.rl.train import nursery_command
    from slurm.ray.node import end_group, tie_to_job

    folder = Path(tempfile.mkdtemp(prefix="pgnursery-"))
    command, environment = nursery_command(folder / "socket", out)
    with (out / "nursery.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=tie_to_job,
        )
    try:
        yield folder / "socket"
    finally:
        end_group(process, 10.0)
        shutil.rmtree(folder, ignore_errors=True)


def run_trainer(
    handle: RayHandle, run: StageRun, settings: Settings, out: Path, endpoints: Path | None, nursery: Path | None
) -> None:
    """verl's own trainer as a child process; running it again continues from its last checkpoint."""
    from proxygrm.core.errors import UserError
    from proxygrm.rl.train import collect_metrics, explain, finish, progress, train_grpo_command

    device, trainers = run.profile.node.device, handle.plan.trainers
    grpo = settings.grpo.fitted(len(trainers) * trainers[0].trainer_gpus)
    if grpo != settings.grpo:
        sizes = f"batch {grpo.batch}, mini_batch {grpo.mini_batch}, micro_batch {grpo.micro_batch}"
        print(f"{sizes}: what the GPUs can share evenly", flush=True)
    command, environment = train_grpo_command(
        grpo,
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
        raise UserError(explain(out, log.read_text(errors="replace")) or str(error)) from error
    finish(out, run.inputs["policy"])


def validate(stage: Stage, profile: Profile) -> None:
    """Nodes and GPUs shared out as the job does it (`train` here, `proxygrm.serving.replicas.group`), with made-up
    nodes."""
    from proxygrm.serving.replicas.placement import place_replicas
    from slurm.ray.plan import NodeRecord, plan_cluster

    settings, on, cpu = stage.config, stage.on, profile.node.device == "cpu"
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
