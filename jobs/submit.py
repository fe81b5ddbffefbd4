"""The only module that talks to submitit."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from data_tools.shards import Step, all_shards
from jobs import private, snapshot
from jobs.ledger import Ledger
from jobs.plan import Planned, Sending, dependency, in_batches, log_folder, sbatch_parameters, waits_for_none
from jobs.scheduler import IN_QUEUE, query
from jobs.stage import Resources, Stage, StageRun
from jobs.worker import StageJob, StepJob
from proxygrm.errors import UserError
from proxygrm.interrupts import uninterrupted
from slurm import commands
from slurm.environment import path_problem, python_command
from slurm.health import bad_nodes
from slurm.profile import Profile

AT_ONCE = Sending()


@contextmanager
def _executor(
    stage: Stage, profile: Profile, run_dir: Path, depends_on: str, code: Path, hold: bool = False
) -> Iterator[Any]:
    """submitit's executor of one submission, in an environment in which the shell says nothing to SLURM.

    Raises UserError with sbatch's own sentence when it is not accepted.
    """
    import submitit

    folder = log_folder(run_dir, stage)
    private.make_jobs(run_dir, folder)
    executor = submitit.SlurmExecutor(
        folder=folder,
        max_num_timeout=stage.max_requeues,
        python=python_command(profile, run_dir),
    )
    executor.update_parameters(**_parameters(stage, profile, run_dir, depends_on, hold, code))
    if stage.throttle:
        executor.update_parameters(array_parallelism=stage.throttle)
    try:
        with commands.clean_environment():
            yield executor
    except Exception as error:  # submitit raises its own classes around sbatch's words
        raise UserError(f"{stage.batch or stage.name} was not accepted: {_reason(error)}") from error
    finally:
        private.tighten(folder)


def _parameters(
    stage: Stage, profile: Profile, run_dir: Path, depends_on: str, hold: bool, code: Path
) -> dict[str, Any]:
    """Of one submission, with the guard of what it loads before anything else in its script."""
    found = sbatch_parameters(stage, bad_nodes.avoided(profile, run_dir), depends_on, hold, code)
    found["setup"] = [
        *private.guard_lines(run_dir.absolute(), log_folder(run_dir.absolute(), stage), code),
        *found["setup"],
    ]
    return found


def require_slurm() -> None:
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise commands.NoAnswer(f"no SLURM here: sbatch is not on PATH; {commands.REMEDY}")
    answer = commands.answer("scontrol", "ping")
    if answer.returncode != 0:
        # "Slurmctld(primary) at HOST is DOWN", and then a frame of asterisks; or no more than an error.
        lines = [line.strip("* ") for line in [*answer.stdout.splitlines(), *answer.stderr.splitlines()]]
        why = [line for line in lines if "is DOWN" in line] or [line for line in lines if line]
        raise commands.NoAnswer(f"SLURM does not answer: {why[-1] if why else 'scontrol ping failed'}")


def rendered(
    lines: list[Planned], profile: Profile, run_dir: Path, job_ids: dict[str, str], sending: Sending = AT_ONCE
) -> str:
    """The exact batch script of one of `plan.in_batches`; what is not submitted yet stands there as <its name>."""
    from submitit.slurm import slurm

    stage = lines[0].stage
    depends_on, hold = dependency(lines, job_ids, sending.after), sending.hold and waits_for_none(lines)
    code = snapshot.planned(run_dir)
    parameters = _parameters(stage, profile, run_dir, depends_on, hold, code)
    elements = stage.array if len(lines) == 1 else len(lines)
    if elements > 1:
        parameters["map_count"] = elements
        if stage.throttle:
            parameters["array_parallelism"] = stage.throttle
    folder = log_folder(run_dir, stage)
    command = f"{python_command(profile, run_dir)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    return slurm._make_sbatch_string(command=command, folder=folder, **parameters)


def submit(
    planned: list[Planned],
    profile: Profile,
    ledger: Ledger,
    redo: frozenset[str] = frozenset(),
    said: Callable[[Planned, str], None] = lambda planned, job_id: None,
    sending: Sending = AT_ONCE,
) -> dict[str, str]:
    """Send every stage of the plan that has to run; returns stage -> job id, those already queued included.

    Each id is recorded before the next submission, so an interruption in the middle loses none of them. All run one
    copy of the code as it is now.
    """
    batches = in_batches(planned)
    private.refuse_shared(ledger.folder, [log_folder(ledger.folder, lines[0].stage) for lines in batches])
    code = snapshot.take(ledger.folder) if batches else Path()
    job_ids = {p.stage.name: p.job_id for p in planned if p.job_id}
    for lines in batches:
        for line in lines:
            ledger.prepare(line.stage, line.fingerprint, redo=line.stage.name in redo)
        depends_on, hold = dependency(lines, job_ids, sending.after), sending.hold and waits_for_none(lines)
        elements = [
            StageJob(line.stage, ledger.folder, profile, cell, line.fingerprint)
            for line in lines
            for cell in range(line.stage.array)
        ]
        with uninterrupted():  # no job is sent and not recorded
            with _executor(lines[0].stage, profile, ledger.folder, depends_on, code, hold) as executor:
                with executor.batch() if len(elements) > 1 else nullcontext():
                    jobs = [executor.submit(element) for element in elements]
                sent = [job.job_id for job in jobs]
            if len(lines) == 1:  # of an array of one stage's own elements: the array's id
                sent = [sent[0].split("_")[0]]
            found = {line.stage.name: job_id for line, job_id in zip(lines, sent, strict=True)}
            ledger.record_submissions({line.stage.name: (found[line.stage.name], line.fingerprint) for line in lines})
        job_ids |= found
        for line in lines:
            said(line, found[line.stage.name])
    return job_ids


def submit_step(
    step: Step, shards: int, profile: Profile, on: Resources, merge_on: Resources | None = None
) -> tuple[str, str]:
    """Send a step as a job array of `shards` elements and its merge after them; returns both job ids.

    `on` is what one element asks for, `merge_on` the merge (the same by default). Shards that are done already end at
    once.
    """
    folder = step.out / ".jobs"  # beside the parts, which the merge removes
    run = Stage(name=step.name, run=_not_a_chain, makes=(), on=on, array=shards)
    join = Stage(name=f"{step.name}-merge", run=_not_a_chain, makes=(), on=merge_on or on)
    if problem := path_problem(folder):
        raise UserError(problem)
    private.make(folder, 0o700)
    private.refuse_shared(folder, [log_folder(folder, run), log_folder(folder, join)])
    code = snapshot.take(folder)
    with uninterrupted():  # no array without its merge
        with _executor(run, profile, folder, "", code) as executor:
            with executor.batch():
                jobs = [executor.submit(StepJob(step, shard)) for shard in all_shards(shards)]
            array_id = jobs[0].job_id.split("_")[0]
        with _executor(join, profile, folder, f"afterok:{array_id}", code) as executor:
            merge_id = executor.submit(StepJob(step, None, shards)).job_id
    return array_id, merge_id


def check_after(job_ids: Iterable[str]) -> None:
    """`afterok` on an id that SLURM does not know starts at once, on one that failed never: both are refused."""
    job_ids = list(job_ids)
    for job in job_ids:
        if not re.fullmatch(r"\d+(_\d+)?", job):
            raise UserError(f"--after {job}: that is no job id (12345, or 12345_7 for an element of an array)")
    known = query(job_ids)
    for job in job_ids:
        if job not in known:
            raise UserError(f"--after {job}: SLURM knows no such job, and would take it for one that ended well")
        if bad := [one.state for one in known[job] if one.state not in IN_QUEUE | {"COMPLETED"}]:
            raise UserError(f"--after {job}: that job has ended as {bad[0]}, so the chain would never start")


def _not_a_chain(run: StageRun) -> None:
    raise AssertionError("a data step is no stage of a chain; only its resources are those of one")


def _reason(error: Exception) -> str:
    """sbatch's own sentence out of submitit's long message."""
    lines = [line.strip() for line in str(error).splitlines() if "sbatch: error" in line]
    text = lines[0].split("sbatch: error:")[-1].strip() if lines else str(error).strip().splitlines()[-1]
    hint = ""
    if "partition" in text.lower():
        hint = "; set scheduler.partition in the profile (sinfo lists the partitions)"
    elif "account" in text.lower():
        hint = "; set scheduler.account in the profile"
    return text + hint
