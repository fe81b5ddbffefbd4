"""Runs and parses squeue and sacct: the state of jobs in the queue, and of every attempt that ever started."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from slurm import commands

ACTIVE = {
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
}
IN_QUEUE = ACTIVE | {"COMPLETING"}
"""COMPLETING: the job has ended and its nodes still clean up. It does no more work, and nothing waits for it."""
CLOCK_SKEW_S = 600.0
"""How far the clocks of the scheduler and of this machine may differ."""
SOON_S = 30.0
QUEUE_FIELDS = (
    "ArrayJobID:20|,ArrayTaskID:20|,State:20|,RestartCnt:10|,StartTime:20|,EndTime:20|,NodeList:2000|,Reason:200"
)
"""The reason is last: sites may write anything into it."""
ACCOUNT_FIELDS = "JobID,State,ExitCode,Submit,Start,End,ElapsedRaw,TimelimitRaw,ReqTRES,AllocTRES,NodeList"


@dataclass(frozen=True)
class JobState:
    """One element of one job as SLURM sees it now. exit_code: "CODE:SIGNAL", of ended jobs, from sacct only."""

    state: str
    reason: str = ""
    nodes: str = ""
    exit_code: str = ""
    restarts: int = 0
    started: float = 0.0
    """Seconds since the epoch; 0 while it waits."""


@dataclass(frozen=True)
class Tres:
    """What an allocation has on all of its nodes together."""

    cpus: int = 0
    gpus: int = 0
    nodes: int = 0


@dataclass(frozen=True)
class Attempt:
    """One start of one element of a job; a requeued job has several."""

    job: str
    state: str
    exit_code: str
    start: float
    end: float
    elapsed_s: int
    limit_min: int
    """0 where the job has no limit."""
    requested: Tres
    allocated: Tres
    """All zero while it waits, and when it never started."""
    nodes: str


def query(job_ids: Iterable[str], since: float = 0.0) -> dict[str, list[JobState]]:
    """States of the given jobs, by one squeue and, for jobs that have left squeue, one sacct.

    An id is that of a job or a whole array ("12": all its elements), or of one element ("12_3"). Unknown jobs are not
    in the result. since: as in `attempts`.
    """
    job_ids = list(dict.fromkeys(job_ids))
    rows: dict[str, dict[str, JobState]] = {_base(job): {} for job in job_ids}
    if not rows:
        return {}
    command = ["squeue", "-h", "-r", "-a", "-t", "all", "-j", ",".join(rows), "-O", QUEUE_FIELDS]
    for line in _lines(command, tolerate="Invalid job id"):
        job, element, state, restarts, start, end, nodes, reason = (part.strip() for part in line.split("|", 7))
        state = _of_completing(end) if state == "COMPLETING" else state
        rows[job]["" if element == "N/A" else element] = JobState(
            state, "" if reason == "None" else reason, nodes, "", _int(restarts), _time(start)
        )
    missing = [job for job in job_ids if not _of(rows, job)]
    for attempt in attempts(missing, since):
        job, _, element = attempt.job.partition("_")
        before = rows[job].get(element)
        if before is None or before.exit_code:  # a later attempt of a job only sacct knows replaces the earlier one
            earlier = before.restarts + 1 if before else 0
            rows[job][element] = JobState(attempt.state, "", attempt.nodes, attempt.exit_code, earlier, attempt.start)
    return {job: states for job in job_ids if (states := _of(rows, job))}


def attempts(job_ids: Iterable[str], since: float = 0.0) -> list[Attempt]:
    """Every attempt of the given jobs that accounting knows, by start time; [] without accounting.

    Of an id "12_3" only that element's; elements that never started are listed one by one. since (seconds since the
    epoch): when the first of them was submitted; accounting also keeps older jobs of the same number, from before the
    scheduler's job numbers started again.
    """
    ids = set(job_ids)
    if not ids:
        return []
    bases = dict.fromkeys(_base(job) for job in ids)
    command = ["sacct", "-D", "-X", "-n", "-P", "-j", ",".join(bases), "-o", ACCOUNT_FIELDS]
    result = []
    for line in _lines(command, tolerate=""):
        name, state, exit_code, sent, start, end, elapsed, limit, requested, allocated, nodes = line.split("|", 10)
        if _time(sent) < since - CLOCK_SKEW_S:
            continue
        job, _, element = name.partition("_")
        for number in _elements(element):
            name = f"{job}_{number}" if number else job
            if name in ids or job in ids:
                result.append(
                    Attempt(
                        job=name,
                        state=state.split()[0].rstrip("+"),
                        exit_code=exit_code,
                        start=_time(start),
                        end=_time(end),
                        elapsed_s=_int(elapsed),
                        limit_min=_int(limit),
                        requested=_tres(requested),
                        allocated=_tres(allocated),
                        nodes="" if nodes.startswith("None") else nodes,
                    )
                )
    return sorted(result, key=lambda attempt: attempt.start or float("inf"))


def find(tokens: Iterable[str], since: float) -> dict[str, str]:
    """Token -> job (of an array: its own id), for jobs of this user whose comment or script name contains the token.

    A site may overwrite comments and may not keep them in accounting; the name of the script is kept by the controller
    and, since SLURM 21.08, by accounting. since: when the first of them was started. Raises NoAnswer when squeue does
    not answer. A job that neither knows has ended, if it ever existed.
    """
    tokens, user = list(tokens), str(os.getuid())
    command = ["squeue", "-h", "-a", "-t", "all", "-u", user, "-O", "ArrayJobID:20|,Command:5000|,Comment:5000"]
    jobs = _with_token(tokens, _lines(command, tolerate=""))
    if missing := [token for token in tokens if token not in jobs]:
        begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - CLOCK_SKEW_S))
        command = ["sacct", "-D", "-X", "-n", "-P", "-u", user, "-S", begin, "-o", "JobID,Comment,SubmitLine"]
        jobs |= _with_token(missing, _lines(command, tolerate=""))
    return jobs


def _with_token(tokens: list[str], lines: list[str]) -> dict[str, str]:
    jobs: dict[str, str] = {}
    for line in lines:
        job, _, rest = line.partition("|")
        jobs |= {token: _base(job.strip()) for token in tokens if token in rest}
    return jobs


def origin(job_id: str) -> tuple[float, str]:
    """Of a running job: when sbatch accepted it (seconds since the epoch), and its log."""
    output = "\n".join(_lines(["scontrol", "show", "job", job_id], tolerate=""))
    sent, log = re.search(r"\bSubmitTime=(\d+)", output), re.search(r"^ *StdOut=(/.*)$", output, re.MULTILINE)
    return _time(sent[1] if sent else ""), log[1] if log else ""


def cancel(job_ids: Iterable[str]) -> None:
    commands.ask("scancel", *job_ids)


def _of_completing(end: str) -> str:
    """squeue shows COMPLETING for an ended job and for a requeued one, while their nodes clean up. The end time of the
    first is in the past; that of the second, if it has one, is the limit of its next start."""
    return "COMPLETING" if 0 < _time(end) <= time.time() + SOON_S else "REQUEUED"


def _base(job_id: str) -> str:
    return job_id.split("_")[0]


def _of(rows: dict[str, dict[str, JobState]], job_id: str) -> list[JobState]:
    job, _, element = job_id.partition("_")
    return [rows[job][element]] if element in rows[job] and element else [] if element else list(rows[job].values())


def _elements(text: str) -> list[str]:
    """sacct's name for elements of an array: "3", or "[0-4,7%2]" while they wait or when they never started."""
    if not text.startswith("["):
        return [text]
    spans = [span.split("-") for span in text.strip("[]").split("%")[0].split(",")]
    return [str(number) for span in spans for number in range(int(span[0]), int(span[-1].split(":")[0]) + 1)]


def _tres(text: str) -> Tres:
    """ "billing=4,cpu=4,gres/gpu:h100=2,gres/gpu=2,mem=8G,node=1"; typed GPUs are counted in the untyped sum too."""
    values = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    typed = sum(_int(value) for key, value in values.items() if key.startswith("gres/gpu:"))
    gpus = max(_int(values.get("gres/gpu", "0")), typed)
    return Tres(_int(values.get("cpu", "0")), gpus, _int(values.get("node", "0")))


def _int(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


def _time(text: str) -> float:
    """Of SLURM_TIME_FORMAT=%s; 0 for Unknown, None and N/A."""
    return float(_int(text))


def _lines(command: list[str], tolerate: str) -> list[str]:
    try:
        done = commands.answer(*command)
    except commands.NoAnswer:
        if command[0] == "sacct":
            return []
        raise
    if done.returncode and not (tolerate and tolerate in done.stderr):
        if command[0] == "sacct":
            return []  # a site without accounting: the caller then reports unknown
        raise commands.failed(done)
    return [line for line in done.stdout.splitlines() if line]
