"""A stage in a job that a person sent (slurm/templates): it records itself as it starts, so that `status`, `logs`,
`why`, `cost`, `cancel` and the next plan know it as any other."""

from __future__ import annotations

import os
import time

from jobs import logs, scheduler
from jobs.ledger import Ledger
from jobs.stage import Stage
from proxygrm.errors import UserError
from slurm.health.bad_nodes import job_name

RECORDED_WITHIN_S = 300.0
"""Between the start of a job's first task and its record: Python's imports from a slow shared folder, at most."""
LOOK_S = 0.5


def enter(stage: Stage, ledger: Ledger, fingerprint: str, rank: int) -> None:
    """Called by every task before the stage runs; the first one makes the stage's folder ready, the others wait."""
    if stage.array > 1 and "SLURM_ARRAY_JOB_ID" not in os.environ:
        raise UserError(f"{stage.name} has {stage.array} shards: sbatch --array=0-{stage.array - 1}")
    if rank == 0:
        _record(stage, ledger, fingerprint)
        return
    deadline = time.monotonic() + RECORDED_WITHIN_S
    while ledger.marked(stage) != fingerprint:
        if time.monotonic() > deadline:
            raise UserError(
                f"{ledger.folder / stage.name} was not made ready within {RECORDED_WITHIN_S:.0f} s by the job's first "
                "task; its lines in this log say why. Do all nodes see the same folder? (proxygrm doctor)"
            )
        time.sleep(LOOK_S)


def _record(stage: Stage, ledger: Ledger, fingerprint: str) -> None:
    job = job_name()
    try:
        sent, log = scheduler.origin(job)
    except UserError as error:  # a busy controller is no reason to lose a job that has its nodes
        print(f"{stage.name}: `proxygrm logs` will not find this log: {error}", flush=True)
        sent, log = time.time(), ""
    ledger.record_by_hand(stage, fingerprint, job.split("_")[0] if stage.array > 1 else job, sent)
    if log:
        logs.adopt(ledger.folder, stage, job, log)
