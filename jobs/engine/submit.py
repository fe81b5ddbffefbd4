"""What is sent, in which order, and recorded; `sbatch` does the sending."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from data_tools.steps.shards import Shard, Step, all_shards
from jobs.engine.plan import Planned, Sending, dependency, in_batches, log_folder, waits_for_none
from jobs.engine.run_folder import snapshot, tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Stage, StageRun
from jobs.engine.worker import StageJob, StepJob
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.interrupts import uninterrupted
from slurm import commands, private
from slurm.environment import path_problem, python_command
from slurm.health.preflight import bad_nodes
from slurm.profile import Profile
from slurm.sbatch import Resources, sbatch_parameters
from slurm.scheduler import IN_QUEUE, query

AT_ONCE = Sending()


def _asked(
    stage: Stage, profile: Profile, run_dir: Path, depends_on: str, hold: bool, code: Path, token: str
) -> dict[str, Any]:
    """What one submission asks of SLURM, in submitit's own parameter names, with the guard of what it loads before
    anything else in its script."""
    asked = sbatch_parameters(stage, bad_nodes.avoided(profile, run_dir), depends_on, hold, code)
    jobs = log_folder(run_dir.absolute(), stage)
    asked["setup"] = [*private.guard_lines(run_dir.absolute(), jobs, code), *asked["setup"]]
    more = asked["additional_parameters"]
    more["comment"] = f"{more.get('comment', '')} {token}".strip()
    if stage.throttle:
        asked["array_parallelism"] = stage.throttle
    return asked


def _send(
    work: Sequence[Any], stage: Stage, profile: Profile, ledger: Ledger, intent: tokens.Intent, asked: dict[str, Any]
) -> dict[str, str]:
    """Send what was begun under a token, and record it; stage -> job id.

    Raises UserError with sbatch's own sentence when it was not accepted, or when nobody can say whether it was.
    """
    from slurm import submission as sbatch

    name, python = stage.batch or stage.name, python_command(profile, ledger.folder)
    folder = log_folder(ledger.folder, stage)
    private.make_jobs(ledger.folder, folder)
    try:
        job = sbatch.send(work, folder, python, asked, intent.token, stage.max_requeues)
    except sbatch.InDoubt as error:
        job = _looked_for(name, intent, str(error), ledger)
    except Exception as error:
        tokens.drop(ledger, intent)
        raise UserError(f"{name} was not accepted: {_reason(error)}") from error
    return tokens.record(ledger, intent, job)


def _looked_for(name: str, intent: tokens.Intent, said: str, ledger: Ledger) -> str:
    """sbatch gave up, and the controller may have the job all the same."""
    try:
        job = tokens.wait_for(intent, since=time.time())
    except commands.NoAnswer as error:
        raise UserError(
            f"{name}: sbatch lost the controller ({said}), and it is not known whether the job was taken: {error}; "
            "`proxygrm submit` looks for it before it sends anything"
        ) from error
    if not job:
        tokens.drop(ledger, intent)
        raise UserError(f"{name} was not accepted: {said} (SLURM knows no such job {tokens.IN_DOUBT_S:.0f} s later)")
    return job


def rendered(
    lines: list[Planned], profile: Profile, run_dir: Path, job_ids: dict[str, str], sending: Sending = AT_ONCE
) -> str:
    """The exact batch script of one of `plan.in_batches`; what is not submitted yet stands there as <its name>, and
    what is drawn for each submission as TOKEN."""
    from slurm import submission as sbatch

    stage, code = lines[0].stage, snapshot.planned(run_dir)
    depends_on, hold = dependency(lines, job_ids, sending.after), sending.hold and waits_for_none(lines)
    asked = _asked(stage, profile, run_dir, depends_on, hold, code, token := f"{tokens.PREFIX}TOKEN")
    elements = stage.array if len(lines) == 1 else len(lines)
    return sbatch.script(log_folder(run_dir, stage), python_command(profile, run_dir), asked, token, elements)


def submit(
    planned: list[Planned],
    profile: Profile,
    ledger: Ledger,
    redo: frozenset[str] = frozenset(),
    said: Callable[[Planned, str], None] = lambda planned, job_id: None,
    sending: Sending = AT_ONCE,
) -> dict[str, str]:
    """Send every stage of the plan that has to run; returns stage -> job id, those already queued included.

    Each id is recorded before the next submission, so an interruption in the middle loses none of them; a sender that
    is killed leaves its token, by which the next one finds the job. All run one copy of the code as it is now.
    """
    batches = in_batches(planned)
    private.refuse_shared(ledger.folder, [log_folder(ledger.folder, lines[0].stage) for lines in batches])
    code = snapshot.take(ledger.folder) if batches else Path()
    job_ids = {p.stage.name: p.job_id for p in planned if p.job_id}
    for lines in batches:
        for line in lines:
            ledger.prepare(line.stage, line.fingerprint, redo=line.stage.name in redo)
        depends_on, hold = dependency(lines, job_ids, sending.after), sending.hold and waits_for_none(lines)
        stage, number = lines[0].stage, sum(line.stage.array for line in lines)
        with uninterrupted():  # no job is sent and not recorded
            known = {line.stage.name: line.fingerprint for line in lines}
            intent = tokens.begin(ledger, known, number, log_folder(ledger.folder, stage))
            elements = [
                StageJob(line.stage, ledger.folder, profile, cell, line.fingerprint, intent.begun)
                for line in lines
                for cell in range(line.stage.array)
            ]
            asked = _asked(stage, profile, ledger.folder, depends_on, hold, code, intent.token)
            found = _send(elements, stage, profile, ledger, intent, asked)
        job_ids |= found
        for line in lines:
            said(line, found[line.stage.name])
    return job_ids


def submit_step(
    step: Step,
    shards: int,
    profile: Profile,
    on: Resources,
    merge_on: Resources | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[str, str]:
    """Send a step as a job array of `shards` elements and its merge after them; returns both job ids.

    `on` is what one element asks for, `merge_on` the merge (the same by default). tell: is given a line on each job
    that an earlier command had begun to send. Shards that are done already end at once.
    """
    folder = step.out / ".jobs"  # beside the parts, which the merge removes
    run = Stage(name=step.name, run=_not_a_chain, makes=(), on=on, array=shards)
    join = Stage(name=f"{step.name}-merge", run=_not_a_chain, makes=(), on=merge_on or on)
    if problem := path_problem(folder):
        raise UserError(problem)
    private.make(folder, 0o700)
    private.refuse_shared(folder, [log_folder(folder, run), log_folder(folder, join)])
    ledger, fingerprint = Ledger(folder), f"{step.stamp}/{shards}"
    with ledger.lock("submit"):
        for line in tokens.settle(ledger):
            tell(line)
        code = snapshot.take(folder)

        def send(stage: Stage, shards: list[Shard | None], count: int, depends_on: str) -> str:
            if job := _in_queue(stage, ledger, fingerprint):
                return job  # sent before, by a command that did not come to its end, or by one like it
            intent = tokens.begin(ledger, {stage.name: fingerprint}, len(shards), log_folder(folder, stage))
            work = [StepJob(step, shard, count, intent.begun) for shard in shards]
            asked = _asked(stage, profile, folder, depends_on, False, code, intent.token)
            return _send(work, stage, profile, ledger, intent, asked)[stage.name]

        with uninterrupted():  # no array without its merge
            array_id = send(run, [*all_shards(shards)], 0, "")
            return array_id, send(join, [None], shards, f"afterok:{array_id}")


def _in_queue(stage: Stage, ledger: Ledger, fingerprint: str) -> str:
    """The job that does this very thing already; "" when there is none."""
    row = ledger.submissions().get(stage.name)
    if row is None or row["fingerprint"] != fingerprint:
        return ""
    states = query([row["job_id"]], row["first"]).get(row["job_id"], [])
    return row["job_id"] if any(one.state in IN_QUEUE for one in states) else ""


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
    """What sbatch said, and where to look."""
    text = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    hint = ""
    if "partition" in text.lower():
        hint = "; set scheduler.partition in the profile (sinfo lists the partitions)"
    elif "account" in text.lower():
        hint = "; set scheduler.account in the profile"
    return text + hint
