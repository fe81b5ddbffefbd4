"""squeue + sacct + the run folder -> one state per stage. What neither of them knows is `unknown`, never a guess."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from jobs.engine.facts import elements, first_sent, jobs_of
from jobs.engine.run_folder import failures, tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import from_here, read_json
from jobs.engine.stage import Stage, identities
from slurm.scheduler import ACTIVE, IN_QUEUE, JobState, query

Word = Literal[
    "running",
    "requeued",
    "pending",
    "waiting",
    "failed",
    "timed out",
    "node failed",
    "preempted",
    "cancelled",
    "unknown",
    "not submitted",
    "done",
]
"""All states. The state of several elements is the first of these that any of them is in."""
WORDS: tuple[Word, ...] = get_args(Word)
LIVE = frozenset({"running", "requeued", "pending", "waiting"})
"""In the queue or running."""
BAD = frozenset({"failed", "timed out", "node failed", "preempted", "cancelled"})

ENDED: dict[str, Word] = {
    "FAILED": "failed",
    "OUT_OF_MEMORY": "failed",
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
    "TIMEOUT": "timed out",
    "DEADLINE": "timed out",
    "NODE_FAIL": "node failed",
    "BOOT_FAIL": "node failed",
    "PREEMPTED": "preempted",
    "COMPLETED": "failed",  # only looked up where the DONE record is missing
}
MAYBE_SENT = "a submission was started, and the scheduler cannot be asked whether it has the job"
NOT_SENT = "a submission was started and SLURM has no job of it; `proxygrm submit` settles it"
NO_RECORD = "ended without a DONE record"


@dataclass(frozen=True)
class StageState:
    """What `proxygrm status` shows for a stage, or for a batch of stages.

    done, total: the stage's own progress while it runs; elements when there are several. counts: elements by word,
    when there are several.
    """

    stage: str
    word: Word
    detail: str = ""
    job_id: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    attempt: int = 1
    counts: Mapping[str, int] | None = None

    @property
    def live(self) -> bool:
        return self.word in LIVE

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 1)}


def word_of(job: JobState) -> Word:
    """The state of one element that is not proven done."""
    if job.state == "PENDING":
        waits = job.reason.startswith("Dependency") and job.reason != "DependencyNeverSatisfied"
        return "requeued" if job.restarts else "waiting" if waits else "pending"
    if job.state in IN_QUEUE:
        return "requeued" if job.state.startswith("REQUEUE") or job.state == "SPECIAL_EXIT" else "running"
    return ENDED.get(job.state, "unknown")


def each(stages: list[Stage], ledger: Ledger, away: str = "") -> dict[str, StageState]:
    """The state of every stage by name; the scheduler is asked once for all of them.

    away: why it cannot be asked, if so: then what no record proves is unknown.
    """
    doubtful = {
        name
        for intent in (tokens.unsettled(ledger) if away else tokens.find_unrecorded(ledger))
        for name in intent.stages
    }
    submissions, known = ledger.submissions(), identities(stages)
    sent = {s.name: jobs_of(s, submissions[s.name]) for s in stages if s.name in submissions}
    ids = [element for s in stages for job in sent.get(s.name, []) for element in elements(s, job)]
    jobs = {} if away else query(ids, first_sent(submissions))
    states: dict[str, StageState] = {}
    for stage in stages:
        waits = [up.name for up in stage.upstream() if up.name in states and states[up.name].word != "done"]
        state = _stage_state(stage, ledger, sent.get(stage.name, []), jobs, known[stage.name].fingerprint, waits)
        if away and state.word == "unknown":
            reason = failure_reason(stage, ledger, since=submissions[stage.name]["submitted"])
            more = f"; its last record: failed, {reason}" if reason else ""
            state = replace(state, detail=f"the scheduler cannot be asked{more}")
        if stage.name in doubtful and state.word != "done" and not state.live:
            state = replace(state, word="unknown" if away else state.word, detail=MAYBE_SENT if away else NOT_SENT)
        states[stage.name] = state
    return states


def status(stages: list[Stage], ledger: Ledger, away: str = "") -> list[StageState]:
    """One per stage, or per batch of stages. away: as of `each`."""
    states = each(stages, ledger, away)
    batches: dict[str, list[StageState]] = {}
    for stage in stages:
        batches.setdefault(stage.batch or stage.name, []).append(states[stage.name])
    return [of_batch(name, members) for name, members in batches.items()]


def of_batch(name: str, members: list[StageState]) -> StageState:
    """Live while any member is, then failed if any member failed, then done."""
    if len(members) == 1 and members[0].stage == name:
        return members[0]
    counts: Counter[str] = Counter(member.word for member in members)
    word = _first(counts)
    lead = next(member for member in members if member.word == word)
    failed = next((member for member in members if member.word in BAD), None)
    detail = summary(counts)
    if failed and failed.detail:
        detail += f"; {failed.stage}: {failed.detail}"
    elif lead.detail and lead.live and word != "running":
        detail += f"; {lead.detail}"
    done = counts["done"]
    seconds = max((member.seconds for member in members), default=0.0)
    return StageState(name, word, detail, lead.job_id.split("_")[0], done, len(members), seconds, counts=dict(counts))


def summary(counts: Mapping[str, int]) -> str:
    """ "12 running, 980 pending, 8 failed" """
    return ", ".join(f"{counts[word]} {word}" for word in WORDS if counts.get(word))


def _first(counts: Mapping[str, int]) -> Word:
    return next(word for word in WORDS if counts.get(word))


def _stage_state(
    stage: Stage,
    ledger: Ledger,
    sent: list[str],
    jobs: Mapping[str, list[JobState]],
    fingerprint: str,
    waits: list[str],
) -> StageState:
    """sent: as from `jobs_of`; for each element the newest job that SLURM knows counts."""
    job_id = sent[0] if sent else ""
    names = [(cell, name) for job in reversed(sent) for cell, name in enumerate(elements(stage, job))]
    each = {cell: jobs[name][0] for cell, name in names if name in jobs}
    if not any(job.state in ACTIVE for job in each.values()) and ledger.unfinished(stage, fingerprint) is None:
        records = [ledger.done(stage, cell) for cell in range(stage.array)]
        seconds = max(r.finished for r in records if r) - min(r.started for r in records if r)
        last = max((r for r in records if r), key=lambda record: record.attempts)
        reused = f"reused from {from_here(Path(last.reused_from))}" if last.reused_from else ""
        last_job_id = last.job_id if reused else job_id or last.job_id
        return StageState(stage.name, "done", reused, last_job_id, 1, 1, seconds, last.attempts)
    if not job_id:
        lost = ledger.lost_source(stage, (ledger.done(stage, cell) for cell in range(stage.array)))
        return StageState(stage.name, "not submitted", lost)
    words: dict[int, Word] = {cell: word_of(each[cell]) if cell in each else "unknown" for cell in range(stage.array)}
    if stage.array > 1:
        for cell in words:
            record = ledger.done(stage, cell) if cell not in each or each[cell].state == "COMPLETED" else None
            if record and record.fingerprint == fingerprint:
                words[cell] = "done"
    counts: Counter[str] = Counter(words.values())
    if set(words.values()) <= {"done", "failed", "unknown"} and _done_otherwise(stage, ledger, fingerprint, each):
        return StageState(stage.name, "not submitted", ledger.unfinished(stage, fingerprint) or "", job_id)
    if set(counts) == {"done"}:  # every element has its record, but a check fails
        return StageState(stage.name, "failed", ledger.unfinished(stage, fingerprint) or NO_RECORD, job_id)
    word = _first(counts)
    cell = next(cell for cell in words if words[cell] == word)
    job = each.get(cell, JobState(""))
    detail = _detail(word, job, stage, ledger, waits)
    done, total, note, started = _progress(stage, ledger, each)
    if word == "running":
        detail = f"{note} {detail}".strip()
    if stage.array > 1:
        detail = "; ".join(filter(None, [summary(counts), detail]))
    seconds = time.time() - started if word == "running" and started else 0.0
    several = dict(counts) if stage.array > 1 else None
    return StageState(stage.name, word, detail, job_id, done, total, seconds, job.restarts + 1, several)


def _done_otherwise(stage: Stage, ledger: Ledger, fingerprint: str, each: Mapping[int, JobState]) -> bool:
    """Its jobs ended well, with another configuration than the run has now."""
    if any(job.state != "COMPLETED" for job in each.values()):
        return False
    records = [ledger.done(stage, cell) for cell in range(stage.array)]
    return all(records) and any(record and record.fingerprint != fingerprint for record in records)


def _detail(word: Word, job: JobState, stage: Stage, ledger: Ledger, waits: list[str]) -> str:
    if word == "waiting":
        return f"for {', '.join(waits)}" if waits else "for a job of another run"
    if word == "requeued":
        return ", ".join(filter(None, [f"{job.restarts} time{'s' * (job.restarts != 1)}", job.reason]))
    if word == "pending":
        return job.reason
    if word == "running":
        where = f"on {job.nodes}" if job.nodes else ""
        if job.state == "COMPLETING":
            return f"ending {where}".strip()
        return f"{where}, attempt {job.restarts + 1}" if job.restarts else where
    if word == "unknown":
        return f"SLURM says {job.state}" if job.state else "neither squeue nor sacct knows the job"
    reason = failure_reason(stage, ledger, since=job.started)
    if reason or word == "cancelled":
        return reason or ("what it needs will not be done" if job.reason == "DependencyNeverSatisfied" else "")
    reason = {"COMPLETED": NO_RECORD, "OUT_OF_MEMORY": "out of memory"}.get(job.state, "no reason recorded")
    return f"{reason}; see `proxygrm why {stage.name}`"


def _progress(stage: Stage, ledger: Ledger, each: Mapping[int, JobState]) -> tuple[int, int, str, float]:
    """Sum over array elements of (done, total), the last note, and when the first running element started.

    What an earlier attempt wrote does not count: a requeued job has not come that far again.
    """
    rows = []
    for cell, job in each.items():
        if job.state == "PENDING":
            continue  # a thousand waiting cells would be a thousand reads from a shared file system
        row = read_json(ledger.folder / stage.name / f"progress.{cell}.json")
        if row and row["time"] >= job.started:
            rows.append(row)
    started = min((job.started for job in each.values() if job.state == "RUNNING" and job.started), default=0.0)
    if not rows:
        return 0, 0, "", started
    last = max(rows, key=lambda row: row["time"])
    return sum(r["done"] for r in rows), sum(r["total"] for r in rows), last["note"], started


def failure_reason(stage: Stage, ledger: Ledger, since: float = 0.0) -> str:
    """The first failure that the jobs themselves recorded since then, with its node; "" when there is none."""
    recorded = failures.since(ledger.folder / stage.name, since)
    return failures.in_one_line(recorded[0]) if recorded else ""
