"""Before work starts: every node of the job measures itself, rank 0 judges, a bad node is excluded and the job
requeued.

Called by every task, one per node. Returns when the nodes may be used. Raises UserError when they may not and a requeue
would not help; when the job is requeued, the scheduler ends this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.serving.access.held_port import free_port
from slurm.commands import host_names
from slurm.health.preflight import bad_nodes
from slurm.health.preflight.clock import clock_server
from slurm.health.preflight.judge import Verdict, judge
from slurm.health.preflight.measure import Leader, measure
from slurm.health.preflight.record import NodeHealth
from slurm.profile import Profile
from slurm.ray.addresses import node_address, node_name
from slurm.ray.rendezvous import Rendezvous

log = logging.getLogger(__name__)

END_S = 120.0
"""How long a task waits to be ended, after its job was requeued."""
MARGIN_S = 30.0
"""How much longer the other nodes wait than rank 0, which has to judge and to write first."""


def required(profile: Profile, gpus: int, nodes: int) -> bool:
    return profile.health.preflight and (gpus > 0 or nodes > 1)


def check_nodes(profile: Profile, *, gpus: int, rank: int, size: int, folder: Path, run_dir: Path, stage: str) -> None:
    """gpus: how many the job has on each node. folder: on the shared file system, of this stage only."""
    started = time.monotonic()
    until = started + profile.health.timeout_s
    name = node_name()
    if size == 1:
        health = measure(profile.health, profile.node, rank=0, size=1, name=name, address="", leader=None, until=until)
        _act(judge([name], {0: health}, gpus, profile.health), profile, run_dir, stage)
    else:
        rendezvous = Rendezvous(folder, rank, size)
        if rank == 0:
            _lead(rendezvous, profile, gpus, name, until, run_dir, stage)
        else:
            _follow(rendezvous, profile, name, until)
    if rank == 0:
        seconds = time.monotonic() - started
        log.info("preflight: %d node%s fit to work (%.1f s)", size, "s" * (size > 1), seconds)


def _lead(
    rendezvous: Rendezvous, profile: Profile, gpus: int, name: str, until: float, run_dir: Path, stage: str
) -> None:
    """Rank 0: serve the clock and the store's port, measure, collect, judge, publish the verdict, act on it."""
    try:
        address = node_address(profile.node.interface)
    except UserError as error:
        rendezvous.publish("verdict", {"fit": False, "words": str(error)})
        raise
    with contextlib.ExitStack() as stack:
        leader = Leader(address, stack.enter_context(clock_server(address)), free_port(address))
        rendezvous.publish("meet", {"address": leader.address, "clock": leader.clock, "store": leader.store})
        records = {0: _measure(rendezvous, profile, name, address, leader, until)}
        while len(records) < rendezvous.size and time.monotonic() < until:
            for rank in set(range(1, rendezvous.size)) - set(records):
                if row := rendezvous.read(f"health-{rank}"):
                    records[rank] = NodeHealth.from_json(row)
            time.sleep(0.1)
    verdict = judge(_names(rendezvous.size, records), records, gpus, profile.health)
    fit = not verdict.bad and not verdict.group
    rendezvous.publish("verdict", {"fit": fit, "words": verdict.group or verdict.summary})
    _act(verdict, profile, run_dir, stage)


def _follow(rendezvous: Rendezvous, profile: Profile, name: str, until: float) -> None:
    deadline = until + MARGIN_S

    def read_leader() -> dict[str, Any] | None:
        if (verdict := rendezvous.read("verdict")) and not verdict["fit"]:
            raise UserError(verdict["words"], code="preflight.unfit")
        return rendezvous.read("meet")

    row = rendezvous.wait(read_leader, deadline, lambda: "rank 0 has not started")
    try:
        address = node_address(profile.node.interface)
        _measure(rendezvous, profile, name, address, Leader(**row), until)
    except UserError as error:
        health = NodeHealth(rendezvous.rank, name, problem=str(error))
        rendezvous.publish(f"health-{rendezvous.rank}", health.to_json())
    verdict = rendezvous.wait(lambda: rendezvous.read("verdict"), deadline, lambda: "rank 0 has not judged")
    if not verdict["fit"]:
        # Rank 0 requeues or fails the job, and reports why; this task is ended with it.
        time.sleep(END_S)
        raise UserError(verdict["words"], code="preflight.unfit")


def _measure(
    rendezvous: Rendezvous, profile: Profile, name: str, address: str, leader: Leader, until: float
) -> NodeHealth:
    """Measure this node and publish the result."""
    health = measure(
        profile.health, profile.node, rank=rendezvous.rank, size=rendezvous.size, name=name, address=address,
        leader=leader, until=until - MARGIN_S / 3,
    )  # fmt: skip
    rendezvous.publish(f"health-{rendezvous.rank}", health.to_json())
    return health


def _names(size: int, records: dict[int, NodeHealth]) -> list[str]:
    """Names of the nodes by rank: from their records, and for silent ones from SLURM's list (one task per node, in its
    order)."""
    names = host_names(os.environ.get("SLURM_JOB_NODELIST", ""))
    return [
        records[rank].node if rank in records else names[rank] if rank < len(names) else f"of rank {rank}"
        for rank in range(size)
    ]


def _act(verdict: Verdict, profile: Profile, run_dir: Path, stage: str) -> None:
    """Return when all nodes are fit; else requeue without the bad nodes, or raise."""
    for note in verdict.notes:
        log.info("preflight: %s", note)
    if verdict.group:
        raise UserError(
            f"preflight: {verdict.group}; no single node is the cause, so fix this or the profile's [health] table "
            "(node.interface, the site's check); health.preflight = false skips it",
            code="preflight.all-nodes",
            reason=verdict.group,
        )
    if not verdict.bad:
        return
    requeues = bad_nodes.record(run_dir, verdict, stage)
    max_requeues = profile.health.max_requeues
    if requeues >= max_requeues:
        raise UserError(
            f"preflight: {verdict.summary}; requeued {requeues} times already (health.max_requeues = {max_requeues}); "
            f"all bad nodes are in {run_dir / bad_nodes.NAME}: have them drained, or list them in scheduler.exclude",
            code="preflight.bad-nodes",
            nodes=verdict.nodes,
            requeues=requeues,
        )
    log.warning("preflight: %s; excluded, requeue %d of at most %d", verdict.summary, requeues + 1, max_requeues)
    try:
        bad_nodes.exclude_and_requeue(verdict.nodes)
    except UserError as error:
        raise UserError(
            f"preflight: {verdict.summary}; and the job could not be requeued without: {error}",
            code="preflight.not-requeued",
            nodes=verdict.nodes,
        ) from error
    time.sleep(END_S)
    raise UserError(
        f"preflight: {verdict.summary}; SLURM accepted the requeue and did not end this job",
        code="preflight.not-ended",
        nodes=verdict.nodes,
    )
