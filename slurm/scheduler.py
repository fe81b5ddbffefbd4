"""What SLURM says of jobs: squeue for those it still holds, sacct for every attempt it ever started."""

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
"""COMPLETING: it has ended, and its nodes still clean up after it. Such a job does no more work, and nothing waits for
it."""
CLOCKS_DIFFER_S = 600.0
SOON_S = 30.0
QUEUE_FIELDS = (
    "ArrayJobID:20|,ArrayTaskID:20|,State:20|,RestartCnt:10|,StartTime:20|,EndTime:20|,NodeList:2000|,Reason:200"
)
"""The reason stands last: sites may write anything into it."""
ACCOUNT_FIELDS = "JobID,State,ExitCode,Submit,Start,End,ElapsedRaw,TimelimitRaw,ReqTRES,AllocTRES,NodeList"


@dataclass(frozen=True)
class JobState:
    """One element of one job as SLURM sees it now. exit_code: "CODE:SIGNAL", known of ended jobs to sacct alone."""

    state: str
    reason: str = ""
    nodes: str = ""
    exit_code: str = ""
    restarts: int = 0
    started: float = 0.0
    """Seconds since the epoch; 0 while it waits."""


@dataclass(frozen=True)
class Tres:
    """What an allocation holds: of all of its nodes together."""

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
    asked: Tres
    held: Tres
    """All zero while it waits, and when it never started."""
    nodes: str


def query(job_ids: Iterable[str], since: float = 0.0) -> dict[str, list[JobState]]:
    """States of the given jobs, by one squeue and, for what squeue has forgotten, one sacct.

    An id is that of a job or a whole array ("12": all its elements), or of one element ("12_3"). Jobs that nobody
    knows are not in the answer. since: as in `attempts`.
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
        if before is None or before.exit_code:  # a later attempt of what only sacct knows replaces the earlier one
            again = before.restarts + 1 if before else 0
            rows[job][element] = JobState(attempt.state, "", attempt.nodes, attempt.exit_code, again, attempt.start)
    return {job: states for job in job_ids if (states := _of(rows, job))}


def attempts(job_ids: Iterable[str], since: float = 0.0) -> list[Attempt]:
    """Every attempt of the given jobs that accounting knows, in the order in which they began; [] without accounting.

    Of an id "12_3" only that element's; elements that never started are named one by one. since (seconds since the
    epoch): when the first of them was submitted; accounting also keeps older jobs of the same number, from before the
    scheduler began to count anew.
    """
    wanted = set(job_ids)
    if not wanted:
        return []
    bases = dict.fromkeys(_base(job) for job in wanted)
    command = ["sacct", "-D", "-X", "-n", "-P", "-j", ",".join(bases), "-o", ACCOUNT_FIELDS]
    found = []
    for line in _lines(command, tolerate=""):
        name, state, exit_code, sent, start, end, elapsed, limit, asked, held, nodes = line.split("|", 10)
        if _time(sent) < since - CLOCKS_DIFFER_S:
            continue
        job, _, element = name.partition("_")
        for one in _elements(element):
            full = f"{job}_{one}" if one else job
            if full in wanted or job in wanted:
                found.append(
                    Attempt(
                        job=full,
                        state=state.split()[0].rstrip("+"),
                        exit_code=exit_code,
                        start=_time(start),
                        end=_time(end),
                        elapsed_s=_int(elapsed),
                        limit_min=_int(limit),
                        asked=_tres(asked),
                        held=_tres(held),
                        nodes="" if nodes.startswith("None") else nodes,
                    )
                )
    return sorted(found, key=lambda attempt: attempt.start or float("inf"))


def find(tokens: Iterable[str], since: float) -> dict[str, str]:
    """Token -> job (of an array: its own id), for jobs of this user whose comment or script's name holds the token.

    A site may overwrite comments and may not keep them in accounting; the name of the script stands with the controller
    and, since SLURM 21.08, in accounting. since: when the first of them was begun. Raises NoAnswer when squeue does not
    answer. A job that neither knows has ended, if it ever was.
    """
    tokens, mine = list(tokens), str(os.getuid())
    command = ["squeue", "-h", "-a", "-t", "all", "-u", mine, "-O", "ArrayJobID:20|,Command:5000|,Comment:5000"]
    found = _with_token(tokens, _lines(command, tolerate=""))
    if missing := [token for token in tokens if token not in found]:
        begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - CLOCKS_DIFFER_S))
        command = ["sacct", "-D", "-X", "-n", "-P", "-u", mine, "-S", begin, "-o", "JobID,Comment,SubmitLine"]
        found |= _with_token(missing, _lines(command, tolerate=""))
    return found


def _with_token(tokens: list[str], lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        job, _, rest = line.partition("|")
        found |= {token: _base(job.strip()) for token in tokens if token in rest}
    return found


def origin(job_id: str) -> tuple[float, str]:
    """Of a job that is running: when sbatch took it (seconds since the epoch), and the file its output goes to."""
    said = "\n".join(_lines(["scontrol", "show", "job", job_id], tolerate=""))
    sent, log = re.search(r"\bSubmitTime=(\d+)", said), re.search(r"^ *StdOut=(/.*)$", said, re.MULTILINE)
    return _time(sent[1] if sent else ""), log[1] if log else ""


def cancel(job_ids: Iterable[str]) -> None:
    commands.ask("scancel", *job_ids)


def _of_completing(end: str) -> str:
    """squeue says COMPLETING of a job that has ended and of one that was requeued, while their nodes clean up. The end
    of the first lies in the past; that of the second, if it has one, is the limit of a start to come."""
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
    found = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    typed = sum(_int(value) for key, value in found.items() if key.startswith("gres/gpu:"))
    return Tres(_int(found.get("cpu", "0")), max(_int(found.get("gres/gpu", "0")), typed), _int(found.get("node", "0")))


def _int(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


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
            return []  # sites without accounting: the caller then says unknown
        raise commands.NoAnswer(f"{command[0]} failed: {commands.first_words(done)}")
    return [line for line in done.stdout.splitlines() if line]
