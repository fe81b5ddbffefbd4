"""`run_in_cluster`: what every task of an RL job calls. Rank 0 drives, the others run Ray on their node."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from slurm.ray.addresses import interface_of, node_address, node_name
from slurm.ray.handle import WATCH_S, ClusterLost, RayHandle
from slurm.ray.node import RayNode, child_environment, private_folder, secret_environment
from slurm.ray.plan import Share, plan_cluster
from slurm.ray.readiness import head_address, head_answers, lost_node, reported_failure, wait_until_complete
from slurm.ray.rendezvous import Rendezvous

LEAVE_S = 30.0
"""How long a node waits, after its Ray ended, for the message that the job itself has ended (shared file systems
lag)."""


@dataclass(frozen=True)
class ClusterOptions:
    """gpus_per_node: what the job has on each node. cpus: logical CPUs Ray hands out on each node. shares: what
    auxiliary services take of both."""

    gpus_per_node: int
    cpus: int
    device: str
    shares: tuple[Share, ...] = ()
    interface: str = ""
    object_store_mb: int = 200
    ready_timeout_s: float = 300.0


def run_in_cluster(
    rank: int, size: int, folder: Path, options: ClusterOptions, driver: Callable[[RayHandle], None]
) -> None:
    """Start Ray over the job's nodes, let rank 0 drive, take everything down again.

    folder: on the shared file system; gets the rendezvous and one Ray log per node. Raises on every rank when
    anything failed, so that each task ends with a non-zero exit code.
    """
    # SLURM's GPU plugin sets AMD's variables beside NVIDIA's; verl refuses to start when it finds both.
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if "CUDA_VISIBLE_DEVICES" in os.environ:
            os.environ.pop(variable, None)
    deadline = time.monotonic() + options.ready_timeout_s
    rendezvous = Rendezvous(folder, rank, size)
    if rank == 0:
        rendezvous.create_secrets()
    name, address = node_name(), node_address(options.interface)
    records = rendezvous.nodes(name, address, deadline)
    plan = plan_cluster(records, options.gpus_per_node, options.shares)
    role = plan.nodes[rank]
    interface, private = options.interface or interface_of(address), private_folder()
    environment = child_environment(plan, rank, rendezvous.token, interface, options.device)
    environment |= secret_environment(rendezvous.secret, private)
    log = rendezvous.folder / f"ray-{name}.log"
    node = RayNode(role, environment, private, options.cpus, options.object_store_mb, log)
    failed = True
    try:
        if rank == 0:
            node.start_head()
            head = head_address(node, deadline)
            rendezvous.publish("plan.json", {**asdict(plan), "head": head, "other_ports": "free ones, by the kernel"})
            rendezvous.publish("head.json", head)
            _drive(rendezvous, node, RayHandle(plan, head, rendezvous.folder, environment), deadline, driver)
        else:
            head = rendezvous.wait(
                lambda: rendezvous.read("head.json"), deadline, lambda: "Ray's head has no address yet"
            )
            node.start_worker(head)
            _serve(rendezvous, node)
        failed = False
    except BaseException as error:
        rendezvous.report_failure(name, _reason(error))
        raise
    finally:
        if rank == 0:
            _dismiss(rendezvous, "failed" if failed else "ok")
        node.stop(keep_logs=failed)
        if rank == 0:
            rendezvous.remove_secrets()
        rendezvous.publish(f"left-{rank}", "")
        if rank and failed:
            # srun kills every task as soon as one ends with an error; rank 0 should report the reason first.
            _wait_for(rendezvous, "left-0")
            time.sleep(2 * WATCH_S)


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "it was asked to end"
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _drive(
    rendezvous: Rendezvous, node: RayNode, handle: RayHandle, deadline: float, driver: Callable[[RayHandle], None]
) -> None:
    os.environ.update(handle.environment)
    import ray

    try:
        with handle.interrupted():
            handle.watch(lambda: reported_failure(rendezvous, node))
            on_sigterm = signal.getsignal(signal.SIGTERM)
            own_address = handle.plan.nodes[0].address
            # Its workers import from the folder the driver is in before any other. The one the job was sent from may
            # hold a checkout, which is not the code of this job.
            with contextlib.chdir(handle.folder):
                ray.init(
                    address=handle.address, _node_ip_address=own_address, log_to_driver=False, logging_level="ERROR"
                )
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would abort before anything is taken down
            wait_until_complete(handle.plan, ray.nodes, rendezvous, node, deadline)
            handle.watch(lambda: lost_node(handle.plan, ray.nodes))
            driver(handle)
    except ClusterLost:
        raise  # without ray.shutdown(), which would wait for a dead head
    except BaseException:
        ray.shutdown()
        raise
    ray.shutdown()


def _serve(rendezvous: Rendezvous, node: RayNode) -> None:
    """On a node that does not drive: watch its Ray until rank 0 reports that the job has ended."""
    deadline: float | None = None
    while True:
        end = rendezvous.end()
        if end == "ok":
            return
        if end == "failed":
            raise ClusterLost(rendezvous.failure() or "the driving node reported a failure")
        if death := node.death():
            deadline = deadline or time.monotonic() + LEAVE_S
            failure = rendezvous.failure()
            if failure or head_answers(rendezvous) or time.monotonic() > deadline:
                rendezvous.report_failure(node.role.name, death)
                _wait_for(rendezvous, "end")  # rank 0 takes things down first
                raise ClusterLost(failure or f"node {node.role.name}: {death}")
        time.sleep(WATCH_S)


def _wait_for(rendezvous: Rendezvous, name: str) -> None:
    deadline = time.monotonic() + LEAVE_S
    while rendezvous.read(name) is None and time.monotonic() < deadline:
        time.sleep(0.2)


def _dismiss(rendezvous: Rendezvous, end: str) -> None:
    """Let the other nodes know before Ray's head goes, and give them time to leave by themselves."""
    rendezvous.publish("end", end)
    deadline = time.monotonic() + LEAVE_S
    while time.monotonic() < deadline:
        if all(rendezvous.read(f"left-{rank}") is not None for rank in range(1, rendezvous.size)):
            return
        time.sleep(0.2)
