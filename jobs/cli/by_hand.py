"""A stage in a job that a person sent (slurm/templates): it records itself as it starts, so that `status`, `logs`,
`why`, `cost`, `cancel` and the next plan know it as any other."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

from jobs.cli.common import console
from jobs.cli.send import refuse
from jobs.engine import last_save
from jobs.engine import request as requests
from jobs.engine.plan import Planned
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Stage, closure
from jobs.engine.watch import logs
from jobs.engine.worker import StageJob
from proxygrm.core.errors import UserError
from slurm import scheduler
from slurm.health.preflight.bad_nodes import job_name

RECORDED_WITHIN_S = 300.0
"""Between the start of a job's first task and its record: Python's imports from a slow shared folder, at most."""
LOOK_S = 0.5


def run_stage(asked: dict[str, Any], name: str) -> None:
    """One stage in the present allocation, without submitit: what the sbatch templates call on every node."""
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(f"run-stage {name} runs inside a job; the files of slurm/templates start one with sbatch")
    resolved, ledger = console.of_request(asked)
    stage = closure(resolved.stages, [name])[-1]
    fingerprint = stage.fingerprint()
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    if rank == 0:
        here = replace(stage.on, nodes=int(os.environ.get("SLURM_NNODES", stage.on.nodes)))
        stage = replace(stage, on=here)  # the script's, not the recipe's
        refuse([Planned(stage, "run", "asked for", fingerprint)], resolved, ledger.folder, ask=False)
        requests.save(resolved, ledger)
    for key, value in resolved.profile.environment.variables.items():
        os.environ.setdefault(key, value)
    # An array of one-job stages (sft.sbatch) numbers the stages, not elements of one.
    cell = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")) if stage.array > 1 else 0
    if cell >= stage.array:
        console.out.print(f"{name} has {stage.array} shards, 0 to {stage.array - 1}: nothing to do for element {cell}")
        return
    sent = enter(stage, ledger, fingerprint, rank)
    last_save.on_signal(name, resolved.profile.scheduler.signal_before_end_s)
    StageJob(stage, ledger.folder, resolved.profile, cell, fingerprint, sent)()


def enter(stage: Stage, ledger: Ledger, fingerprint: str, rank: int) -> float:
    """Called by every task before the stage runs; the first one makes the stage's folder ready, the others wait.
    Returns the job's place among those of the stage."""
    if stage.array > 1 and "SLURM_ARRAY_JOB_ID" not in os.environ:
        raise UserError(f"{stage.name} has {stage.array} shards: sbatch --array=0-{stage.array - 1}")
    job = recorded_name(stage)
    if rank == 0:
        _record(stage, ledger, fingerprint)
        return ledger.order(stage, job)
    deadline = time.monotonic() + RECORDED_WITHIN_S
    while ledger.marked(stage) != fingerprint or not ledger.order(stage, job):
        if time.monotonic() > deadline:
            raise UserError(
                f"{ledger.folder / stage.name} was not made ready within {RECORDED_WITHIN_S:.0f} s by the job's first "
                "task; its lines in this log say why. Do all nodes see the same folder? (proxygrm doctor)"
            )
        time.sleep(LOOK_S)
    return ledger.order(stage, job)


def recorded_name(stage: Stage) -> str:
    """Of this job, as the ledger has it: of a stage that is an array, the array's."""
    return job_name().split("_")[0] if stage.array > 1 else job_name()


def _record(stage: Stage, ledger: Ledger, fingerprint: str) -> None:
    job = job_name()
    try:
        sent, log = scheduler.origin(job)
    except UserError as error:  # a busy controller is no reason to lose a job that has its nodes
        print(f"{stage.name}: `proxygrm logs` will not find this log: {error}", flush=True)
        sent, log = time.time(), ""
    ledger.record_by_hand(stage, fingerprint, recorded_name(stage), sent)
    if log:
        logs.adopt(ledger.folder, stage, job, log)
