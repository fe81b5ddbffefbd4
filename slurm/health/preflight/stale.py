"""Processes that ended jobs of this user left on this node: they hold GPUs, ports and /dev/shm."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from slurm import commands
from slurm.health.preflight.record import Stale

MARK = "PROXYGRM_STAGE"
"""Set by every job of this suite, so that its processes can be told from the user's other ones."""
END_S = 5.0


@dataclass(frozen=True)
class Seen:
    """One process of this user with its initial environment."""

    pid: int
    command: str
    environment: Mapping[str, str]


def left_over(seen: Iterable[Seen], me: Mapping[str, str], active: set[str]) -> list[Stale]:
    """Those of jobs that are over, and of this job's own earlier attempts. Pure.

    me: this job's environment. active: ids of this user's jobs that the controller counts as running or ending.
    Only processes that SLURM itself put on this node of this cluster are looked at (SLURMD_NODENAME is given to a
    job's programs only); virtual nodes share a machine, and two clusters may share a job id.
    """
    same = ("SLURMD_NODENAME", "SLURM_CONF", "SLURM_CLUSTER_NAME")
    found = []
    for process in seen:
        env = process.environment
        job = env.get("SLURM_JOB_ID", "")
        if not job or "SLURMD_NODENAME" not in env or any(env.get(key) != me.get(key) for key in same):
            continue
        if job == me.get("SLURM_JOB_ID"):
            over = int(env.get("SLURM_RESTART_COUNT", "0")) < int(me.get("SLURM_RESTART_COUNT", "0"))
        else:
            over = job not in active
        if over:
            found.append(Stale(process.pid, job, process.command, ours=MARK in env))
    return found


def here(end: bool) -> list[Stale]:
    """What is left on this node; with `end`, this suite's own processes are ended (TERM, then KILL)."""
    import psutil

    user = str(os.getuid())
    try:
        active = set(commands.ask("squeue", "-h", "-u", user, "-o", "%A").split())
    except commands.NoAnswer:
        return []  # nobody can say which jobs are over, so none is
    seen: dict[int, tuple[Seen, psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid():
                one = Seen(process.pid, process.name(), process.environ())
                seen[process.pid] = (one, process)
        except (psutil.Error, OSError):
            continue  # ended between listing and reading, or not ours to read
    found = left_over((one for one, _ in seen.values()), os.environ, active)
    if not end:
        return found
    victims = [seen[stale.pid][1] for stale in found if stale.ours]
    for process in victims:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(victims, timeout=END_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return [replace(stale, ended=stale.ours) for stale in found]
