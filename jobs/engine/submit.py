"""Sends the stages of a plan in order and records each job; `slurm.submission` talks to sbatch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobs.engine.job.worker import StageJob
from jobs.engine.plan import Planned, Sending, dependency, in_batches, log_folder, waits_for_none
from jobs.engine.run_folder import snapshot, tokens
from jobs.engine.run_folder.code_version import own_code
from jobs.engine.run_folder.ledger import Ledger
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.interrupts import uninterrupted
from slurm import commands, private
from slurm.environment import python_command
from slurm.health.preflight import bad_nodes
from slurm.profile import Profile
from slurm.sbatch import sbatch_parameters

AT_ONCE = Sending()


def submit(
    planned: list[Planned],
    profile: Profile,
    ledger: Ledger,
    redo: frozenset[str] = frozenset(),
    on_sent: Callable[[Planned, str], None] = lambda planned, job_id: None,
    sending: Sending = AT_ONCE,
) -> dict[str, str]:
    """Send and record every stage of the plan that has to run; returns stage -> job id, those already queued included.

    Each id is recorded before the next submission, so an interruption loses none of them; a sender that is killed
    leaves its token, by which the next one finds the job. All jobs run one copy of the code as it is now.
    """
    batches = in_batches(planned)
    private.refuse_shared(ledger.folder, [log_folder(ledger.folder, lines[0].stage) for lines in batches])
    code = snapshot.take(ledger.folder) if batches else Path()
    job_ids = {line.stage.name: line.job_id for line in planned if line.job_id}
    for lines in batches:
        for line in lines:
            ledger.prepare(line.stage, line.fingerprint, line.stage.name in redo, line.made_of)
        with uninterrupted():  # no job is sent and not recorded
            intent = _begin(lines, ledger)
            options = _options(lines, profile, ledger.folder, job_ids, sending, code, intent.token)
            sent = tokens.record(ledger, intent, _send(lines, profile, ledger, intent, options))
        job_ids |= sent
        for line in lines:
            on_sent(line, sent[line.stage.name])
    return job_ids


def rendered(
    lines: list[Planned], profile: Profile, run_dir: Path, job_ids: dict[str, str], sending: Sending = AT_ONCE
) -> str:
    """The exact batch script of one of `plan.in_batches`, with <NAME> for a stage that is not submitted yet and TOKEN
    for the token, which is drawn for each submission."""
    from slurm import submission as sbatch

    stage, token = lines[0].stage, f"{tokens.PREFIX}TOKEN"
    options = _options(lines, profile, run_dir, job_ids, sending, snapshot.planned(run_dir), token)
    elements = stage.array if len(lines) == 1 else len(lines)
    return sbatch.script(log_folder(run_dir, stage), python_command(profile, run_dir), options, token, elements)


def _begin(lines: list[Planned], ledger: Ledger) -> tokens.Intent:
    """A token for one submission, on disk."""
    fingerprints = {line.stage.name: line.fingerprint for line in lines}
    elements = sum(line.stage.array for line in lines)
    return tokens.begin(ledger, fingerprints, elements, log_folder(ledger.folder, lines[0].stage))


def _options(
    lines: list[Planned],
    profile: Profile,
    run_dir: Path,
    job_ids: dict[str, str],
    sending: Sending,
    code: Path,
    token: str,
) -> dict[str, Any]:
    """What one submission asks of SLURM, in submitit's parameter names. The script first checks that nobody else could
    change what it loads."""
    stage = lines[0].stage
    depends_on = dependency(lines, job_ids, sending.after)
    hold = sending.hold and waits_for_none(lines)
    options = sbatch_parameters(stage, bad_nodes.avoided(profile, run_dir), depends_on, hold, code)
    jobs = log_folder(run_dir.absolute(), stage)
    options["setup"] = [*private.guard_lines(run_dir.absolute(), jobs, code), *options["setup"]]
    more = options["additional_parameters"]
    more["comment"] = f"{more.get('comment', '')} {token}".strip()
    if stage.throttle:
        options["array_parallelism"] = stage.throttle
    return options


def _send(
    lines: list[Planned], profile: Profile, ledger: Ledger, intent: tokens.Intent, options: dict[str, Any]
) -> str:
    """One job, or one array for the elements of all lines; returns its id.

    Raises UserError with sbatch's own sentence when it was refused, or when it is not known whether it was accepted.
    """
    from slurm import submission as sbatch

    stage, work = lines[0].stage, _work(lines, profile, ledger, intent.begun)
    name, folder = stage.batch or stage.name, log_folder(ledger.folder, stage)
    private.make_jobs(ledger.folder, folder)
    try:
        python = python_command(profile, ledger.folder)
        return sbatch.send(work, folder, python, options, intent.token, stage.max_requeues)
    except sbatch.InDoubt as error:
        return _find(name, intent, str(error), ledger)
    except Exception as error:
        tokens.drop(ledger, intent)
        reason = _reason(error)
        raise UserError(f"{name} was not accepted: {reason}", code="submit.refused", stage=name) from error


def _work(lines: list[Planned], profile: Profile, ledger: Ledger, sent: float) -> Sequence[StageJob]:
    return [
        StageJob(line.stage, ledger.folder, profile, cell, line.fingerprint, sent, own_code(line.stage.run))
        for line in lines
        for cell in range(line.stage.array)
    ]


def _find(name: str, intent: tokens.Intent, reason: str, ledger: Ledger) -> str:
    """The job of a submission whose sbatch gave up: the controller may have it all the same."""
    try:
        job = tokens.wait_for(intent, since=time.time())
    except commands.NoAnswer as error:
        raise UserError(
            f"{name}: sbatch lost the controller ({reason}), and it is not known whether the job was accepted: "
            f"{error}; `proxygrm submit` looks for it before it sends anything",
            code="submit.in-doubt",
            stage=name,
        ) from error
    if not job:
        tokens.drop(ledger, intent)
        raise UserError(
            f"{name} was not accepted: {reason} (SLURM knows no such job {tokens.IN_DOUBT_S:.0f} s later)",
            code="submit.lost",
            stage=name,
        )
    return job


def _reason(error: Exception) -> str:
    """sbatch's own sentence, and the setting to look at."""
    text = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    if "partition" in text.lower():
        return f"{text}; set scheduler.partition in the profile (sinfo lists the partitions)"
    if "account" in text.lower():
        return f"{text}; set scheduler.account in the profile"
    return text
