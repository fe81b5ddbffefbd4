"""Doing without a bad node: written into the run folder, excluded from the job, the job requeued."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError, barred
from proxygrm.core.files import lock
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.files.whole_file import write_text
from slurm import commands
from slurm.health.preflight.judge import Verdict
from slurm.profile import Profile

NAME = "bad_nodes.json"
KEPT_S = 24 * 3600.0
_WAIT_S = 60.0


def job_name() -> str:
    """This job as scontrol wants it: an element of an array by its own name, because the raw id of one of its
    elements is the array's."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "none")


def restarts() -> int:
    """How often this job was requeued before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def read(run_dir: Path) -> list[dict[str, Any]]:
    """Every bad node a run has met: node, check, reason, time, stage, job, restart."""
    try:
        return json.loads(read_user_text(run_dir / NAME))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        why = barred(error) or f"it is not JSON ({error}); remove it"
        raise UserError(f"{run_dir / NAME} cannot be read: {why}") from error


def avoided(profile: Profile, run_dir: Path) -> Profile:
    """The profile with what went bad in this run within a day added to the nodes not to use: the next stages of a
    chain need not find out again. An older entry may have been repaired, and the preflight looks anyway."""
    recent = {row["node"]: None for row in read(run_dir) if row["time"] > time.time() - KEPT_S}
    nodes = [node for node in recent if node not in profile.scheduler.exclude.split(",")]
    if not nodes:
        return profile
    exclude = ",".join(filter(None, [profile.scheduler.exclude, *nodes]))
    return replace(profile, scheduler=replace(profile.scheduler, exclude=exclude))


def requeues_of(rows: list[dict[str, Any]], job: str) -> int:
    """How often a job has been requeued for bad nodes so far."""
    return len({row["restart"] for row in rows if row["job"] == job})


def record(run_dir: Path, verdict: Verdict, stage: str) -> int:
    """Add the verdict; returns how often this job had been requeued for bad nodes before. Jobs of one run may write
    at the same time."""
    job, restart = job_name(), restarts()
    busy = f"another job has been writing {run_dir / NAME} for {_WAIT_S:.0f} s"
    with lock.held(run_dir / f".{NAME}.lock", busy, wait_s=_WAIT_S):
        before = read(run_dir)
        now = [
            {
                "node": bad.node,
                "check": bad.check,
                "reason": bad.reason,
                "time": time.time(),
                "stage": stage,
                "job": job,
                "restart": restart,
            }
            for bad in verdict.bad
        ]
        write_text(run_dir / NAME, json.dumps([*before, *now], indent=2) + "\n")
    return requeues_of(before, job)


def exclude_and_requeue(nodes: list[str]) -> None:
    """Requeue this job under its own id, with these nodes on its list of nodes not to use.

    SLURM changes that list of waiting jobs only, and the requeue ends this very process: so SIGTERM has to wait for
    the second command. The job does not start in between, because SLURM holds a requeued job back until all of its
    processes are gone and for the life of a credential (two minutes) after that.

    Raises UserError when SLURM refuses.
    """
    job = job_name()
    shown = _scontrol("show", "job", "-o", job)
    before = re.search(r"\bExcNodeList=(\S+)", shown)
    listed = [before[1]] if before and before[1] != "(null)" else []
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the commands inherit it
    try:
        _scontrol("requeue", job)
        _scontrol("update", f"jobid={job}", f"ExcNodeList={','.join([*listed, *nodes])}")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _scontrol(*words: str) -> str:
    return commands.ask("scontrol", *words)
