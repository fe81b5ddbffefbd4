"""What a job does when the scheduler announces its end: save, then requeue under the same id."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.save_now import save_before
from slurm import commands
from slurm.health.preflight.bad_nodes import job_name

TO_REQUEUE_S = 10.0
"""Kept back of the time that is left, to tell SLURM to requeue the job."""


def save(stage: str, lead_s: float) -> None:
    """Have the running training save, for as long as the scheduler leaves time; says how it went. Never raises.

    lead_s: `signal_before_end_s` of the profile, the time a save may take at most.
    """
    now = time.time()
    left = min(lead_s, (end_of_job() or now + lead_s) - now)
    try:
        found = save_before(now + left - min(TO_REQUEUE_S, left / 4))
    except (UserError, OSError) as error:  # a node may die just now, a disk be full: the job is requeued all the same
        found = f"No checkpoint could be asked for ({error}): it goes on from its last one"
    print(f"{stage}: told to stop. {found}. Requeued", flush=True)


def end_of_job() -> float | None:
    """When SLURM will end this job (time.time()); for one that is being preempted, the end of its grace time."""
    try:
        said = commands.ask("squeue", "-h", "-j", os.environ.get("SLURM_JOB_ID", ""), "-o", "%e", timeout_s=10)
        return float(said.split()[0])
    except (commands.NoAnswer, ValueError, IndexError):
        return None  # no scheduler answers, or the job has no end


def on_signal(stage: str, lead_s: float) -> None:
    """What submitit does for its own jobs, for those started by hand: on SIGUSR2 node 0 saves and requeues the job."""

    def requeue(signum: int, frame: FrameType | None) -> None:
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return
        save(stage, lead_s)
        commands.ask("scontrol", "requeue", job_name())

    signal.signal(signal.SIGUSR2, requeue)
