"""Excluding a bad node: it is recorded in the run folder and excluded from the job, and the job is requeued."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError, unreadable_reason
from proxygrm.core.files import lock
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.files.whole_file import write_text
from proxygrm.core.runtime.interrupts import uninterrupted
from slurm import commands
from slurm.health.preflight.judge import Verdict
from slurm.profile import Profile

NAME = "bad_nodes.json"
KEPT_S = 24 * 3600.0
_WAIT_S = 60.0


def job_name() -> str:
    """This job's name for scontrol: ARRAY_INDEX for an element of an array, whose raw id may be that of the array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "none")


def restarts() -> int:
    """How often this job has been requeued."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def read(run_dir: Path) -> list[dict[str, Any]]:
    """Every bad node of a run so far: node, check, reason, time, stage, job, restart."""
    try:
        return json.loads(read_user_text(run_dir / NAME))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = unreadable_reason(error) or f"it is not JSON ({error}); remove it"
        raise UserError(
            f"{run_dir / NAME} cannot be read: {reason}", code="run.bad-nodes-unreadable", path=run_dir / NAME
        ) from error


def avoided(profile: Profile, run_dir: Path) -> Profile:
    """The profile that also excludes the nodes that were bad in this run within a day, so that the next stages of a
    chain do not start on them. Older entries may have been repaired, and the preflight checks anyway."""
    recent = {row["node"]: None for row in read(run_dir) if row["time"] > time.time() - KEPT_S}
    nodes = [node for node in recent if node not in profile.scheduler.exclude.split(",")]
    if not nodes:
        return profile
    exclude = ",".join(filter(None, [profile.scheduler.exclude, *nodes]))
    return replace(profile, scheduler=replace(profile.scheduler, exclude=exclude))


def requeues_of(rows: list[dict[str, Any]], job: str) -> int:
    """How often a job has been requeued because of bad nodes."""
    return len({row["restart"] for row in rows if row["job"] == job})


def record(run_dir: Path, verdict: Verdict, stage: str) -> int:
    """Add the verdict; returns how often this job had been requeued because of bad nodes before. Jobs of one run may
    write at the same time."""
    job, restart = job_name(), restarts()
    busy = f"another job has been writing {run_dir / NAME} for {_WAIT_S:.0f} s"
    with lock.held(run_dir / f".{NAME}.lock", busy, wait_s=_WAIT_S):
        earlier = read(run_dir)
        rows = [
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
        write_text(run_dir / NAME, json.dumps([*earlier, *rows], indent=2) + "\n")
    return requeues_of(earlier, job)


def exclude_and_requeue(nodes: list[str]) -> None:
    """Requeue this job under its own id and exclude these nodes from it.

    SLURM changes that list for waiting jobs only, and the requeue ends this process: by SIGTERM, which waits, and by
    SIGKILL a while later. So one scontrol is told both, and sends the second as soon as the first is answered. The job
    does not start in between, because SLURM delays a requeued job until all of its processes are gone, and then for the
    lifetime of a credential (two minutes).

    Raises UserError when SLURM refuses.
    """
    job = job_name()
    match = re.search(r"\bExcNodeList=(\S+)", _scontrol("show", "job", "-o", job))
    excluded = [match[1]] if match and match[1] != "(null)" else []
    with uninterrupted():
        _scontrol(typed=f"requeue {job}\nupdate jobid={job} ExcNodeList={','.join([*excluded, *nodes])}\n")


def _scontrol(*words: str, typed: str = "") -> str:
    return commands.ask("scontrol", *words, typed=typed)
