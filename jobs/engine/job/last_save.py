"""At the scheduler's signal that a job's end is near: save, then requeue it under the same id."""

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
"""Part of the remaining time that is reserved for requeueing the job."""


def save(stage: str, lead_s: float) -> None:
    """Have the running training save within the time that the scheduler leaves, and print the outcome. Never raises.

    lead_s: `signal_before_end_s` of the profile, the time a save may take at most.
    """
    now = time.time()
    remaining_s = min(lead_s, (end_of_job() or now + lead_s) - now)
    try:
        outcome = save_before(now + remaining_s - min(TO_REQUEUE_S, remaining_s / 4))
    except (UserError, OSError) as error:  # a dying node, a full disk: the job is requeued all the same
        outcome = f"No checkpoint could be requested ({error}): it resumes from its last one"
    print(f"{stage}: told to stop. {outcome}. Requeued", flush=True)


def end_of_job() -> float | None:
    """When SLURM will end this job (time.time()); for one that is being preempted, the end of its grace time."""
    try:
        answer = commands.ask("squeue", "-h", "-j", os.environ.get("SLURM_JOB_ID", ""), "-o", "%e", timeout_s=10)
        return float(answer.split()[0])
    except (commands.NoAnswer, ValueError, IndexError):
        return None  # the scheduler does not answer, or the job has no end


def on_signal(stage: str, lead_s: float) -> None:
    """For jobs sent by hand, what submitit does for its own: on SIGUSR2 node 0 saves and requeues the job."""

    def requeue(signum: int, frame: FrameType | None) -> None:
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return
        save(stage, lead_s)
        commands.ask("scontrol", "requeue", job_name())

    signal.signal(signal.SIGUSR2, requeue)
