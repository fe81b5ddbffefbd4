"""Processes that ended jobs of this user left on this node: they occupy GPUs, ports and /dev/shm."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from slurm import commands
from slurm.health.preflight.record import Stale

MARK = "PROXYGRM_STAGE"
"""Set by every job of this suite, to distinguish its processes from the user's others."""
END_S = 5.0


@dataclass(frozen=True)
class OwnProcess:
    """One process of this user with its initial environment."""

    pid: int
    command: str
    environment: Mapping[str, str]


def left_over(processes: Iterable[OwnProcess], me: Mapping[str, str], active: set[str]) -> list[Stale]:
    """Processes of jobs that have ended, and of this job's earlier attempts. Pure.

    me: this job's environment. active: ids of this user's jobs that the controller counts as running or ending. Only
    processes that SLURM started on this node of this cluster count (only a job's programs have SLURMD_NODENAME);
    virtual nodes share a machine, and two clusters may use the same job id.
    """
    same = ("SLURMD_NODENAME", "SLURM_CONF", "SLURM_CLUSTER_NAME")
    stale = []
    for process in processes:
        env = process.environment
        job = env.get("SLURM_JOB_ID", "")
        if not job or "SLURMD_NODENAME" not in env or any(env.get(key) != me.get(key) for key in same):
            continue
        if job == me.get("SLURM_JOB_ID"):
            has_ended = int(env.get("SLURM_RESTART_COUNT", "0")) < int(me.get("SLURM_RESTART_COUNT", "0"))
        else:
            has_ended = job not in active
        if has_ended:
            stale.append(Stale(process.pid, job, process.command, ours=MARK in env))
    return stale


def stale_processes(end: bool) -> list[Stale]:
    """Stale processes on this node. end: terminate those of this suite (TERM, then KILL)."""
    import psutil

    user = str(os.getuid())
    try:
        active = set(commands.ask("squeue", "-h", "-u", user, "-o", "%A").split())
    except commands.NoAnswer:
        return []  # it is unknown which jobs have ended
    processes: dict[int, tuple[OwnProcess, psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid():
                own = OwnProcess(process.pid, process.name(), process.environ())
                processes[process.pid] = (own, process)
        except (psutil.Error, OSError):
            continue  # ended between listing and reading, or not ours to read
    stale = left_over((own for own, _ in processes.values()), os.environ, active)
    if not end:
        return stale
    victims = [processes[row.pid][1] for row in stale if row.ours]
    for process in victims:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(victims, timeout=END_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return [replace(row, ended=row.ours) for row in stale]
