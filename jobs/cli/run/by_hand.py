"""A stage in a job that was sent by hand (slurm/templates): it records itself as it starts, so that `status`, `logs`,
`why`, `cost`, `cancel` and the next plan know it like any other job."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

from jobs.cli.common import console
from jobs.cli.run.send import Terminal
from jobs.engine import flow
from jobs.engine.job import last_save
from jobs.engine.job.worker import StageJob
from jobs.engine.plan import Planned
from jobs.engine.run_folder.attempts import Attempt
from jobs.engine.run_folder.code_version import own_code
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Identity, Stage, closure
from jobs.engine.watch import logs
from proxygrm.core.errors import UserError
from slurm import scheduler

RECORDED_WITHIN_S = 300.0
"""Longest time between the start of a job's first task and its record: Python's imports from a slow shared folder."""
POLL_S = 0.5


def run_stage(options: dict[str, Any], name: str) -> None:
    """One stage in the current allocation, without submitit: what the sbatch templates call on every node."""
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(
            f"run-stage {name} runs inside a job; the files of slurm/templates start one with sbatch",
            code="run-stage.not-in-a-job",
            stage=name,
        )
    resolved, ledger = console.of_request(options)
    stage = closure(resolved.stages, [name])[-1]
    identity = resolved.identities[name]
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    if rank == 0:
        here = replace(stage.on, nodes=int(os.environ.get("SLURM_NNODES", stage.on.nodes)))
        stage = replace(stage, on=here)  # the script's, not the recipe's
        planned, terminal = [Planned(stage, "run", "sent by hand", identity.fingerprint)], Terminal(resolved, ledger)
        flow.refuse_problems(resolved, ledger, planned, terminal, ask_scheduler=False)
        flow.record(resolved, ledger, terminal)
    for key, value in resolved.profile.environment.variables.items():
        os.environ.setdefault(key, value)
    # An array of one-job stages (sft.sbatch) numbers the stages, not the elements of one stage.
    cell = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")) if stage.array > 1 else 0
    if cell >= stage.array:
        console.out.print(f"{name} has {stage.array} shards, 0 to {stage.array - 1}: nothing to do for element {cell}")
        return
    sent = enter(stage, ledger, identity, rank)
    last_save.on_signal(name, resolved.profile.scheduler.signal_before_end_s)
    StageJob(stage, ledger.folder, resolved.profile, cell, identity.fingerprint, sent, own_code(stage.run))()


def enter(stage: Stage, ledger: Ledger, identity: Identity, rank: int) -> float:
    """Called by every task before the stage runs; the first one prepares the stage's folder, the others wait.
    Returns the job's place among those of the stage."""
    if stage.array > 1 and "SLURM_ARRAY_JOB_ID" not in os.environ:
        raise UserError(
            f"{stage.name} has {stage.array} shards: sbatch --array=0-{stage.array - 1}",
            code="run-stage.not-an-array",
            stage=stage.name,
            count=stage.array,
        )
    job = recorded_name(stage)
    if rank == 0:
        _record(stage, ledger, identity)
        return ledger.order(stage, job)
    deadline = time.monotonic() + RECORDED_WITHIN_S
    while ledger.marked(stage) != identity.fingerprint or not ledger.order(stage, job):
        if time.monotonic() > deadline:
            raise UserError(
                f"{ledger.folder / stage.name} was not prepared within {RECORDED_WITHIN_S:.0f} s by the job's first "
                "task; its lines in this log say why. Do all nodes see the same folder? (proxygrm doctor)",
                code="run-stage.not-prepared",
                path=ledger.folder / stage.name,
            )
        time.sleep(POLL_S)
    return ledger.order(stage, job)


def recorded_name(stage: Stage) -> str:
    """This job's id in the ledger; for an array the array's."""
    job = Attempt.current().job
    return job.split("_")[0] if stage.array > 1 else job


def _record(stage: Stage, ledger: Ledger, identity: Identity) -> None:
    job = Attempt.current().job
    try:
        sent, log = scheduler.origin(job)
    except UserError as error:  # a busy controller should not cost a job that has its nodes
        print(f"{stage.name}: `proxygrm logs` will not find this log: {error}", flush=True)
        sent, log = time.time(), ""
    ledger.record_by_hand(stage, identity.fingerprint, recorded_name(stage), sent, identity.made_of)
    if log:
        logs.adopt(ledger.folder, stage, job, log)
