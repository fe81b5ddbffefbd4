"""A sharded step of the data tools, or of `eval run`, as two stages: its parts as a job array, then their merge.

They are planned, sent, owned and proven like the stages of a chain, in the run folder OUT/.jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data_tools.steps.shards import Shard, Step, all_shards
from jobs.engine.facts import gather
from jobs.engine.plan import plan
from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.submit import submit
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.interrupts import uninterrupted
from slurm import private
from slurm.environment import path_problem
from slurm.profile import Profile
from slurm.sbatch import Resources


def as_stages(step: Step, shards: int, on: Resources, merge_on: Resources | None = None) -> list[Stage]:
    """The parts and the merge. `on` is what one part asks for, `merge_on` the merge (the same by default).

    Their names hold the step's stamp: steps with other options or inputs may be queued for the same output folder.
    """
    name = f"{step.name}-{step.stamp}-{shards}"
    parts = Stage(
        name=name,
        run=partial(_run_part, step),
        makes=(Artifact(f"../../{step.parts.name}", check=partial(_parts_exist, step, shards)),),
        on=on,
        array=shards,
        batch=step.name,
        writes=step.out,
    )
    merge = Stage(
        name=f"{name}-merge",
        run=partial(_merge, step, shards),
        makes=(Artifact(f"../../{step.report}", check=partial(_merged, step)),),
        on=merge_on or on,
        needs={"parts": parts / parts.makes[0].path},
        batch=f"{step.name}-merge",
        writes=step.out,
    )
    return [parts, merge]


def submit_step(
    step: Step,
    shards: int,
    profile: Profile,
    on: Resources,
    merge_on: Resources | None = None,
    on_message: Callable[[str], None] = lambda line: None,
) -> tuple[str, str]:
    """Send what is missing of a step; returns the job ids of its parts ("" when all of them exist) and of its merge.

    on_message: called with a line on each job that an earlier command had started to send.
    """
    folder = step.out / ".jobs"  # beside the parts, which the merge removes
    if problem := path_problem(folder):
        raise UserError(problem, code="run.bad-path", path=folder)
    private.make(folder, 0o700)
    stages, ledger = as_stages(step, shards, on, merge_on), Ledger(folder)
    with ledger.lock("submit"):
        for line in tokens.settle(ledger):
            on_message(line)
        planned = plan(stages, gather(stages, ledger))
        with uninterrupted():  # no array without its merge
            job_ids = submit(planned, profile, ledger)
    parts, merge = stages
    return job_ids.get(parts.name, ""), job_ids.get(merge.name, "")


def _run_part(step: Step, run: StageRun) -> None:
    step.run_one(Shard(run.cell, run.stage.array))


def _merge(step: Step, shards: int, run: StageRun) -> None:
    if step.finished() is None:
        step.finish(shards)


def _parts_exist(step: Step, shards: int, path: Path) -> None:
    """The parts, or what was made of them."""
    if step.finished() is None and (missing := [s for s in all_shards(shards) if not step.done(s, step.parts)]):
        raise UserError(f"{len(missing)} of {shards} parts do not exist", code="data.missing-parts", count=len(missing))


def _merged(step: Step, path: Path) -> None:
    if step.finished() is None:
        raise UserError(f"{step.out / step.report} is not that of this step", code="data.not-merged", path=step.out)
