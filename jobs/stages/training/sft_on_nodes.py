"""A fine-tuning over several nodes: every task trains on its node, rank 0 decides what and reports.

torchrun meets at rank 0, on a port that the kernel chose; the port and the arguments (which checkpoint to resume from)
go through a folder of this attempt on the shared file system. What ends on one node ends everywhere: the first task
that ends with an error takes the others with it (srun's --kill-on-bad-exit), so the others let rank 0 report first.
"""

from __future__ import annotations

import time

from jobs.engine.stage import StageRun
from proxygrm.core.errors import UserError
from proxygrm.sft.nodes import Nodes
from proxygrm.sft.train import join_sft, train_sft
from slurm.ray.addresses import interface_of, node_address, node_name
from slurm.ray.rendezvous import Rendezvous

MEET_S = 300.0
LEAVE_S = 30.0
"""How long a node with an error waits for rank 0 to report."""
REPORT_S = 3.0
"""Time for the nodes' failures to be seen: what fails first makes the others fail, in any order of their messages."""
_ARGUMENTS = "arguments.json"


def train_on_nodes(run: StageRun) -> None:
    deadline = time.monotonic() + MEET_S
    interface, device, gpus = run.profile.node.interface, run.profile.node.device, run.stage.on.gpus_per_node
    rendezvous = Rendezvous(run.out / "nodes", run.rank, run.nodes)
    name, address = node_name(), node_address(interface)
    rendezvous.nodes(name, address, deadline)
    meeting = str(rendezvous.folder / "store.json")
    nodes = Nodes(run.nodes, run.rank, address, interface or interface_of(address), meeting)
    try:
        if run.rank == 0:
            train_sft(
                run.config,
                run.inputs["start"],
                run.inputs["data"],
                run.out,
                device,
                gpus,
                run.progress,
                nodes,
                share=lambda words: rendezvous.publish(_ARGUMENTS, words),
                validation=run.inputs.get("validation"),
            )
        else:
            # Rank 0 first checks the checkpoints of earlier attempts, which may take long; it fails within the job.
            words = _arguments(rendezvous)
            if words:
                join_sft(run.config, words, run.out, device, gpus, nodes)
    except UserError as error:
        rendezvous.report_failure(name, str(error))
        _end(rendezvous, error)
        raise
    _end(rendezvous, None)


def _arguments(rendezvous: Rendezvous) -> list[str]:
    while (words := rendezvous.read(_ARGUMENTS)) is None:
        if failure := rendezvous.failure():
            raise UserError(failure, code="sft.node-failed")
        time.sleep(1.0)
    return words


def _end(rendezvous: Rendezvous, error: UserError | None) -> None:
    """Rank 0 lets the others know; they wait for it. Raises UserError when another node failed first."""
    if rendezvous.rank == 0:
        rendezvous.publish("end", "failed" if error else "ok")
    else:
        # Without an error there is no deadline: rank 0 writes the model, or saves and requeues the job.
        deadline = time.monotonic() + LEAVE_S
        while (end := rendezvous.end()) is None and (error is None or time.monotonic() < deadline):
            time.sleep(0.5)
        if error is None and end == "ok":
            return
        time.sleep(2 * REPORT_S)
    if error is not None and rendezvous.rank == 0:
        time.sleep(REPORT_S)
    failure = rendezvous.failure()
    if failure and (error is None or str(error) not in failure):
        raise UserError(failure, code="sft.node-failed") from error
