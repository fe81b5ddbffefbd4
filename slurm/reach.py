"""The scheduler that a profile speaks of: the site's SLURM, or the private cluster of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from slurm import commands
from slurm.profile import Profile


def connect(profile: Profile, start: bool) -> None:
    """Point SLURM's commands at the private cluster when the profile is the one that uses it."""
    if not profile.private_cluster:
        return
    from slurm.local import cluster
    from slurm.local.folder import default_folder

    folder = default_folder()
    if start:
        cluster.up(folder)
    if start or cluster.made(folder):
        os.environ.update(cluster.env(folder))


@contextmanager
def cluster_in_use(profile: Profile) -> Iterator[None]:
    """Nobody takes the private cluster down for being idle while the block goes on."""
    if not profile.private_cluster:
        yield
        return
    from slurm.local.folder import default_folder, in_use

    with in_use(default_folder()):
        yield


def private_cluster_is_down(profile: Profile) -> str:
    """Why there is no scheduler, or "". Known at once by the cluster's daemons, where SLURM's commands would try for a
    quarter of a minute."""
    if not profile.private_cluster:
        return ""
    from slurm.local import cluster
    from slurm.local.folder import default_folder

    up = cluster.controller_lives(default_folder())
    return "" if up else "the private cluster is down (`proxygrm cluster up` starts it)"


def require_slurm() -> None:
    """Raises NoAnswer where SLURM's commands are missing or its controller does not answer."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise commands.NoAnswer(f"no SLURM here: sbatch is not on PATH; {commands.REMEDY}")
    answer = commands.answer("scontrol", "ping")
    if answer.returncode != 0:
        # "Slurmctld(primary) at HOST is DOWN", and then a frame of asterisks; or no more than an error.
        lines = [line.strip("* ") for line in [*answer.stdout.splitlines(), *answer.stderr.splitlines()]]
        why = [line for line in lines if "is DOWN" in line] or [line for line in lines if line]
        raise commands.NoAnswer(f"SLURM does not answer: {why[-1] if why else 'scontrol ping failed'}")


@contextmanager
def scheduler_at_hand(profile: Profile) -> Iterator[None]:
    """SLURM answers: a private cluster is started, and nobody takes it down for being idle while the block goes on."""
    with cluster_in_use(profile):
        connect(profile, start=True)
        require_slurm()
        yield
