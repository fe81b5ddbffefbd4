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
    """States of the given jobs; the queue's word goes before the accounting's."""
    found: dict[str, list[JobState]] = {}
    if not job_ids:
        return found
    ids = ",".join(job_ids)
    queue = _lines(["squeue", "-h", "-r", "-a", "-t", "all", "-j", ids, "-o", "%F|%T|%r|%N"], tolerate="Invalid job id")
    for line in queue:
        job, state, reason, nodes = line.split("|")
        found.setdefault(job, []).append(JobState(state, "" if reason == "None" else reason, nodes))
    missing = [job for job in job_ids if job not in found]
    if missing:
        fields = "JobID,State,ExitCode,NodeList"
        past = _lines(["sacct", "-X", "-n", "-P", "-j", ",".join(missing), "-o", fields], tolerate="")
        for line in past:
            job, state, exit_code, nodes = line.split("|")
            word = state.split()[0].rstrip("+")
            found.setdefault(job.split("_")[0], []).append(JobState(word, "", nodes, exit_code))
    return found


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
    submissions = ledger.submissions()
    states = query([submissions[s.name]["job_id"] for s in stages if s.name in submissions])
    return [_stage_state(stage, ledger, submissions.get(stage.name, {}), states) for stage in stages]


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
