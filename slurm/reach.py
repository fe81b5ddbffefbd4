"""Reaching the scheduler of a profile: the site's SLURM, or the private cluster of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from slurm import commands
from slurm.profile import Profile


def connect(profile: Profile, start: bool) -> None:
    """Point SLURM's commands at the private cluster when the profile uses it. start: bring it up first."""
    if not profile.private_cluster:
        return
    from slurm.local import cluster
    from slurm.local.folder import default_folder

    folder = default_folder()
    if start:
        cluster.up(folder)
    if start or cluster.exists(folder):
        commands.set_environment(cluster.env(folder))


@contextmanager
def cluster_in_use(profile: Profile) -> Iterator[None]:
    """While the block runs, no command takes the private cluster down for being idle."""
    if not profile.private_cluster:
        yield
        return
    from slurm.local.folder import default_folder, in_use

    with in_use(default_folder()):
        yield


def private_cluster_is_down(profile: Profile) -> str:
    """Why there is no scheduler, or "". By the cluster's processes and so at once, where SLURM's commands would retry
    for a quarter of a minute."""
    if not profile.private_cluster:
        return ""
    from slurm.local import cluster
    from slurm.local.folder import default_folder

    up = cluster.controller_runs(default_folder())
    return "" if up else "the private cluster is down (`proxygrm cluster up` starts it)"


def require_slurm() -> None:
    """Raises NoAnswer where SLURM's commands are missing or its controller does not answer."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise commands.not_installed("sbatch")
    answer = commands.answer("scontrol", "ping")
    if answer.returncode != 0:
        # "Slurmctld(primary) at HOST is DOWN", and then a frame of asterisks; or only an error.
        lines = [line.strip("* ") for line in [*answer.stdout.splitlines(), *answer.stderr.splitlines()]]
        reasons = [line for line in lines if "is DOWN" in line] or [line for line in lines if line]
        reason = reasons[-1] if reasons else "scontrol ping failed"
        raise commands.NoAnswer(f"SLURM does not answer: {reason}", code="slurm.controller-down", reason=reason)


@contextmanager
def scheduler_ready(profile: Profile) -> Iterator[None]:
    """SLURM answers in the block: a private cluster is started, and stays up although it may be idle."""
    with cluster_in_use(profile):
        connect(profile, start=True)
        require_slurm()
        yield
