"""Before work starts: every node of the job measures itself, rank 0 judges, a bad node is left out and the job
requeued.

Called by every task, one a node. Returns when the nodes may be used. Raises UserError when they may not and
requeueing would not help; when the job is requeued, the scheduler ends this process.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from slurm.commands import host_names
from slurm.health.preflight import bad_nodes
from slurm.health.preflight.clock import clock_server
from slurm.health.preflight.judge import Verdict, judge
from slurm.health.preflight.measure import Meet, measure
from slurm.health.preflight.record import NodeHealth
from slurm.profile import Profile
from slurm.ray.addresses import node_address, node_name
from slurm.ray.meeting import Meeting
from slurm.ray.node import free_port

END_S = 120.0
"""How long a task waits to be ended, once its job is requeued."""
MARGIN_S = 30.0
"""What the other nodes wait longer than rank 0, which has to judge and to write first."""


def wanted(profile: Profile, gpus: int, nodes: int) -> bool:
    return profile.health.preflight and (gpus > 0 or nodes > 1)


def check_nodes(
    profile: Profile, *, gpus: int, rank: int, size: int, folder: Path, run_dir: Path, stage: str,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> None:  # fmt: skip
    """gpus: what the job has on each node. folder: on the shared file system, of this stage alone."""
    started = time.monotonic()
    until = started + profile.health.timeout_s
    name = node_name()
    if size == 1:
        mine = measure(profile.health, profile.node, rank=0, size=1, name=name, address="", meet=None, until=until)
        verdict = judge([name], {0: mine}, gpus, profile.health)
        _act(verdict, profile, run_dir, stage, say)
    else:
        meeting = Meeting(folder, rank, size)
        if rank == 0:
            _lead(meeting, profile, gpus, name, until, run_dir, stage, say)
        else:
            _follow(meeting, profile, name, until)
    if rank == 0:
        say(f"preflight: {size} node{'s' * (size > 1)} fit to work ({time.monotonic() - started:.1f} s)")


def _lead(
    meeting: Meeting, profile: Profile, gpus: int, name: str, until: float, run_dir: Path, stage: str,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Rank 0: serve the clock and the store's port, measure, gather, judge, tell the others, act."""
    try:
        address = node_address(profile.node.interface)
    except UserError as error:
        meeting.say("verdict", {"fit": False, "words": str(error)})
        raise
    with contextlib.ExitStack() as stack:
        meet = Meet(address, stack.enter_context(clock_server(address)), free_port(address))
        meeting.say("meet", {"address": meet.address, "clock": meet.clock, "store": meet.store})
        records = {0: _measured(meeting, profile, name, address, meet, until)}
        while len(records) < meeting.size and time.monotonic() < until:
            for rank in set(range(1, meeting.size)) - set(records):
                if row := meeting.heard(f"health-{rank}"):
                    records[rank] = NodeHealth.from_json(row)
            time.sleep(0.1)
    verdict = judge(_names(meeting.size, records), records, gpus, profile.health)
    fit = not verdict.bad and not verdict.group
    meeting.say("verdict", {"fit": fit, "words": verdict.group or verdict.words})
    _act(verdict, profile, run_dir, stage, say)


def _follow(meeting: Meeting, profile: Profile, name: str, until: float) -> None:
    wait = until + MARGIN_S

    def invited() -> dict[str, Any] | None:
        if (verdict := meeting.heard("verdict")) and not verdict["fit"]:
            raise UserError(verdict["words"])
        return meeting.heard("meet")

    row = meeting.wait(invited, wait, lambda: "the first node is silent")
    try:
        address = node_address(profile.node.interface)
        _measured(meeting, profile, name, address, Meet(**row), until)
    except UserError as error:
        meeting.say(f"health-{meeting.rank}", NodeHealth(meeting.rank, name, problem=str(error)).to_json())
    verdict = meeting.wait(lambda: meeting.heard("verdict"), wait, lambda: "rank 0 has not judged")
    if not verdict["fit"]:
        # Rank 0 requeues or fails the job, and says why; this task is ended with it.
        time.sleep(END_S)
        raise UserError(verdict["words"])


def _measured(meeting: Meeting, profile: Profile, name: str, address: str, meet: Meet, until: float) -> NodeHealth:
    found = measure(
        profile.health, profile.node, rank=meeting.rank, size=meeting.size, name=name, address=address, meet=meet,
        until=until - MARGIN_S / 3,
    )  # fmt: skip
    meeting.say(f"health-{meeting.rank}", found.to_json())
    return found


def _names(size: int, records: dict[int, NodeHealth]) -> list[str]:
    """Names of the nodes by rank: what they said, and for silent ones SLURM's list (one task a node, in its order)."""
    listed = os.environ.get("SLURM_JOB_NODELIST", "")
    names = host_names(listed)
    return [
        records[rank].node if rank in records else names[rank] if rank < len(names) else f"of rank {rank}"
        for rank in range(size)
    ]


def _act(verdict: Verdict, profile: Profile, run_dir: Path, stage: str, say: Callable[[str], None]) -> None:
    """Return when all is well; else requeue without the bad nodes, or raise."""
    for note in verdict.notes:
        say(f"preflight: {note}")
    if verdict.group:
        raise UserError(
            f"preflight: {verdict.group}; no node can be blamed, so mend this or the profile's [health] table "
            "(node.interface, the site's check); health.preflight = false skips it"
        )
    if not verdict.bad:
        return
    before = bad_nodes.record(run_dir, verdict, stage)
    most = profile.health.max_requeues
    if before >= most:
        raise UserError(
            f"preflight: {verdict.words}; requeued {before} times already (health.max_requeues = {most}); all bad "
            f"nodes are in {run_dir / bad_nodes.NAME}: have them drained, or list them in scheduler.exclude"
        )
    say(f"preflight: {verdict.words}; excluded, requeue {before + 1} of at most {most}")
    try:
        bad_nodes.exclude_and_requeue(verdict.nodes)
    except UserError as error:
        raise UserError(f"preflight: {verdict.words}; and the job could not be requeued without: {error}") from error
    time.sleep(END_S)
    raise UserError(f"preflight: {verdict.words}; SLURM took the requeue and did not end this job")
