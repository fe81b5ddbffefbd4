"""squeue + sacct + the run folder -> one state a stage. A thing nobody knows is `unknown`, never a guess."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from jobs.ledger import Ledger, read_json
from jobs.plan import Facts
from jobs.stage import Stage
from proxygrm.errors import UserError

ENDED_WELL = {"COMPLETED"}
ACTIVE = {
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "SUSPENDED",
    "STAGE_OUT",
    "RESIZING",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
}


@dataclass(frozen=True)
class JobState:
    """One element of one job as SLURM sees it."""

    state: str
    reason: str = ""
    nodes: str = ""
    exit_code: str = ""


@dataclass(frozen=True)
class StageState:
    """What `proxygrm status` shows of a stage."""

    stage: str
    word: str
    """done | running | pending | failed | cancelled | timed out | node failed | preempted | not submitted | unknown"""
    detail: str = ""
    job_id: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0


WORDS = {
    "COMPLETED": "ended without a DONE record",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "TIMEOUT": "timed out",
    "NODE_FAIL": "node failed",
    "PREEMPTED": "preempted",
    "OUT_OF_MEMORY": "out of memory",
    "BOOT_FAIL": "node failed",
    "DEADLINE": "timed out",
}


def query(job_ids: list[str]) -> dict[str, list[JobState]]:
    """States of the given jobs; the queue's word goes before the accounting's.

    An id is that of a job or a whole array ("12": all its elements), or of one element ("12_3").
    """
    rows: dict[str, dict[str, JobState]] = {job.split("_")[0]: {} for job in job_ids}
    if not rows:
        return {}
    command = ["squeue", "-h", "-r", "-a", "-t", "all", "-j", ",".join(rows), "-o", "%F|%K|%T|%r|%N"]
    for line in _lines(command, tolerate="Invalid job id"):
        job, element, state, reason, nodes = line.split("|")
        rows[job][element] = JobState(state, "" if reason == "None" else reason, nodes)
    if missing := list(dict.fromkeys(job.split("_")[0] for job in job_ids if not _of(rows, job))):
        fields = "JobID,State,ExitCode,NodeList"
        for line in _lines(["sacct", "-X", "-n", "-P", "-j", ",".join(missing), "-o", fields], tolerate=""):
            name, state, exit_code, nodes = line.split("|")
            job, _, element = name.partition("_")
            for one in _elements(element):
                rows[job].setdefault(one, JobState(state.split()[0].rstrip("+"), "", nodes, exit_code))
    return {job: states for job in job_ids if (states := _of(rows, job))}


def _of(rows: dict[str, dict[str, JobState]], job_id: str) -> list[JobState]:
    job, _, element = job_id.partition("_")
    return [rows[job][element]] if element in rows[job] else [] if element else list(rows[job].values())


def _elements(text: str) -> list[str]:
    """sacct's name for elements of an array: "3", or "[0-4,7%2]" while they wait or when they never started."""
    if not text.startswith("["):
        return [text]
    spans = [span.split("-") for span in text.strip("[]").split("%")[0].split(",")]
    return [str(number) for span in spans for number in range(int(span[0]), int(span[-1]) + 1)]


def _lines(command: list[str], tolerate: str) -> list[str]:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise UserError(
            f"no SLURM here: {command[0]} is not on PATH; log in to the cluster, or `make cluster-up`"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"SLURM did not answer {command[0]} within 60 s; try again") from None
    if answer.returncode and not (tolerate and tolerate in answer.stderr):
        if command[0] == "sacct":
            return []  # sites without accounting: the caller then says unknown
        raise UserError(f"{command[0]} failed: {answer.stderr.strip().splitlines()[-1:] or answer.returncode}")
    return [line for line in answer.stdout.splitlines() if line]


def facts(stages: list[Stage], ledger: Ledger, ask_scheduler: bool = True) -> dict[str, Facts]:
    """Everything `plan` needs to know."""
    submissions = ledger.submissions()
    ids = [submissions[s.name]["job_id"] for s in stages if s.name in submissions]
    states = query(ids) if ask_scheduler else {}
    result = {}
    for stage in stages:
        row: dict[str, Any] = submissions.get(stage.name, {})
        active = [j for j in states.get(row.get("job_id", ""), []) if j.state in ACTIVE]
        result[stage.name] = Facts(
            unfinished=ledger.unfinished(stage, stage.fingerprint()),
            active_job=row["job_id"] if active else None,
            active_state=active[0].state if active else "",
            active_fingerprint=row.get("fingerprint", ""),
        )
    return result


def status(stages: list[Stage], ledger: Ledger) -> list[StageState]:
    """One a stage, and one a batch of stages."""
    submissions = ledger.submissions()
    states = query([submissions[s.name]["job_id"] for s in stages if s.name in submissions])
    found = [_stage_state(stage, ledger, submissions.get(stage.name, {}), states) for stage in stages]
    batches: dict[str, list[StageState]] = {}
    for stage, state in zip(stages, found, strict=True):
        batches.setdefault(stage.batch or stage.name, []).append(state)
    return [of_batch(name, members) for name, members in batches.items()]


CALM = ("running", "pending", "not submitted", "done")


def of_batch(name: str, members: list[StageState]) -> StageState:
    """Its word: on its way while any member is, then that of a member that failed, then done."""
    if len(members) == 1 and members[0].stage == name:
        return members[0]
    counts = Counter(member.word for member in members)
    failed = [member for member in members if member.word not in CALM]
    order = ["running", "pending", *(member.word for member in failed), "not submitted", "done"]
    word = next(w for w in order if counts[w])
    first = next(member for member in members if member.word == word)
    detail = ", ".join(f"{count} {text}" for text, count in counts.most_common())
    if failed:
        detail += f"; {failed[0].stage}: {failed[0].detail}"
    done = counts["done"]
    seconds = max((member.seconds for member in members), default=0.0)
    return StageState(name, word, detail, first.job_id.split("_")[0], done, len(members), seconds)


def _stage_state(stage: Stage, ledger: Ledger, row: dict[str, Any], states: dict[str, list[JobState]]) -> StageState:
    job_id = row.get("job_id", "")
    jobs = states.get(job_id, [])
    counts = Counter(job.state for job in jobs)
    active = [job for job in jobs if job.state in ACTIVE]
    done, total, note, since = _progress(stage, ledger)
    if not active and ledger.unfinished(stage, stage.fingerprint()) is None:
        records = [ledger.done(stage, cell) for cell in range(stage.array)]
        seconds = max(r.finished for r in records if r) - min(r.started for r in records if r)
        return StageState(stage.name, "done", "", job_id or (records[0].job_id if records[0] else ""), 1, 1, seconds)
    if not job_id:
        return StageState(stage.name, "not submitted")
    running = [job for job in active if job.state != "PENDING"]
    failed = [job for job in jobs if job.state not in ACTIVE | ENDED_WELL]
    if failed:
        word = WORDS.get(failed[0].state, failed[0].state.lower())
        return StageState(stage.name, word, failure_reason(stage, ledger), job_id, done, total)
    if running:
        seconds = time.time() - since if since else 0.0
        return StageState(stage.name, "running", f"{note} on {running[0].nodes}".strip(), job_id, done, total, seconds)
    if active:
        reason = active[0].reason
        waits = [p.name for p in stage.upstream() if ledger.unfinished(p, p.fingerprint())]
        detail = f"waits for {', '.join(waits)}" if reason.startswith("Dependency") and waits else reason
        return StageState(stage.name, "pending", detail, job_id)
    if counts:
        return StageState(stage.name, WORDS["COMPLETED"], failure_reason(stage, ledger), job_id)
    return StageState(stage.name, "unknown", "neither squeue nor sacct knows the job", job_id)


def _progress(stage: Stage, ledger: Ledger) -> tuple[int, int, str, float]:
    """Sum over array elements of (done, total), the last note, and when the job last started."""
    found = (read_json(ledger.folder / stage.name / f"progress.{cell}.json") for cell in range(stage.array))
    rows = [row for row in found if row]
    if not rows:
        return 0, 0, "", 0.0
    return sum(r["done"] for r in rows), sum(r["total"] for r in rows), rows[-1]["note"], 0.0


def failure_reason(stage: Stage, ledger: Ledger) -> str:
    """The first failure the jobs themselves wrote down, with its node."""
    for cell in range(stage.array):
        row = read_json(ledger.folder / stage.name / f"FAILED.{cell}.json")
        if row:
            where = f" (on {row['node']})" if row["node"] else ""
            return f"{row['reason']}{where}"
    return "no reason recorded; see `proxygrm logs`"
