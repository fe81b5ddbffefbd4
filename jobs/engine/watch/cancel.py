"""Cancel every job of a run, and wait until SLURM has ended them."""

from __future__ import annotations

import time

from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.submissions import all_jobs
from proxygrm.core.errors import UserError
from slurm import scheduler

WAIT_S = 60.0
POLL_S = 0.5


def cancel_all(ledger: Ledger) -> list[str]:
    """Returns the jobs that were queued or running. Raises UserError when some do not end."""
    for intent in tokens.find_unrecorded(ledger):  # one that SLURM is just accepting is waited for
        if job := tokens.wait_for(intent):
            intent.count(ledger, job)
    # All elements of a job array belong to this run: the array is cancelled as one.
    rows = ledger.submissions().values()
    jobs = list(dict.fromkeys(job.split("_")[0] for row in rows for job in all_jobs(row)))
    since = min((row["first"] for row in rows), default=0.0)
    active = in_queue(jobs, since)
    if active:
        scheduler.cancel(active)
    if ending := still_ending(active, since):
        raise UserError(
            f"cancelled, but after {WAIT_S:.0f} s SLURM still ends job {', '.join(ending)} (squeue: CG); "
            "its nodes may hang, tell your site if it persists",
            code="run.still-ending",
            jobs=ending,
        )
    return active


def still_ending(jobs: list[str], since: float) -> list[str]:
    """Those that are still queued, running or ending after WAIT_S at most."""
    deadline = time.monotonic() + WAIT_S
    while (ending := in_queue(jobs, since)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return ending


def in_queue(jobs: list[str], since: float) -> list[str]:
    states = scheduler.query(jobs, since)
    return [job for job, rows in states.items() if any(row.state in scheduler.IN_QUEUE for row in rows)]
