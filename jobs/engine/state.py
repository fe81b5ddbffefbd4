"""squeue + sacct + the run folder -> one state a stage. A thing nobody knows is `unknown`, never a guess."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from jobs.engine.plan import Facts
from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Ledger, read_json
from jobs.engine.run_folder.submissions import all_jobs
from jobs.engine.stage import Stage, fingerprints
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
"""All there are. The state of several elements is the first of these that any of them is in."""
WORDS: tuple[Word, ...] = get_args(Word)
LIVE = frozenset({"running", "requeued", "pending", "waiting"})
"""On its way: in the queue or at work."""
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
    "COMPLETED": "failed",  # its DONE record is missing: otherwise nobody asks
}
CLOCKS_DIFFER_S = 30.0
"""A node's clock may be that much behind the scheduler's; a requeue takes longer."""
ENDING_S = 60.0
MAYBE_SENT = "a submission was begun, and the scheduler cannot be asked whether it has the job"
BEGUN = "a submission was begun and SLURM has no job of it; `proxygrm submit` settles it"
NO_RECORD = "ended without a DONE record"


@dataclass(frozen=True)
class StageState:
    """What `proxygrm status` shows of a stage, or of a batch of stages.

    done, total: of the stage's own progress while it runs; of elements when there are several. counts: elements by
    word, when there are several.
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
    """One element that is not proven done."""
    if job.state == "PENDING":
        waits = job.reason.startswith("Dependency") and job.reason != "DependencyNeverSatisfied"
        return "requeued" if job.restarts else "waiting" if waits else "pending"
    if job.state in IN_QUEUE:
        return "requeued" if job.state.startswith("REQUEUE") or job.state == "SPECIAL_EXIT" else "running"
    return ENDED.get(job.state, "unknown")


def jobs_of(stage: Stage, row: Mapping[str, Any]) -> list[str]:
    """Jobs that may hold what the stage is doing now, the newest first; of an array several, because a person may have
    sent some of its elements again."""
    return all_jobs(row)[::-1] if stage.array > 1 else [row["job_id"]]


def elements(stage: Stage, job_id: str) -> list[str]:
    """The scheduler's ids of a stage's elements."""
    return [f"{job_id}_{cell}" for cell in range(stage.array)] if stage.array > 1 else [job_id]


def facts(stages: list[Stage], ledger: Ledger, ask_scheduler: bool = True) -> dict[str, Facts]:
    """Everything `plan` needs to know."""
    if ask_scheduler:
        tokens.look(ledger)
    submissions, known = ledger.submissions(), fingerprints(stages)
    jobs = {s.name: jobs_of(s, submissions[s.name]) for s in stages if s.name in submissions}
    states = query([job for ids in jobs.values() for job in ids], _since(submissions)) if ask_scheduler else {}
    result = {}
    for stage in stages:
        ids = jobs.get(stage.name, [])
        active = [(job, one.state) for job in ids for one in states.get(job, []) if one.state in ACTIVE]
        result[stage.name] = Facts(
            unfinished=ledger.unfinished(stage, known[stage.name]),
            active_job=active[0][0] if active else None,
            active_state=active[0][1] if active else "",
            active_fingerprint=submissions[stage.name]["fingerprint"] if active else "",
            active_change=ledger.change(stage)
            if active and submissions[stage.name]["fingerprint"] != known[stage.name]
            else "",
        )
    return result


def until_none_is_ending(stages: list[Stage], ledger: Ledger) -> list[str]:
    """Wait, a minute at most, for jobs of these stages that have ended and whose nodes clean up; returns the rest."""
    submissions = ledger.submissions()
    jobs = [job for s in stages if s.name in submissions for job in jobs_of(s, submissions[s.name])]
    deadline = time.monotonic() + ENDING_S
    while True:
        found = query(jobs, _since(submissions))
        left = [job for job, rows in found.items() if any(row.state == "COMPLETING" for row in rows)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


def each(stages: list[Stage], ledger: Ledger, away: str = "") -> dict[str, StageState]:
    """The state of every stage by name; the scheduler is asked once for all of them.

    away: why it cannot be asked, if so: then what no record proves is unknown.
    """
    doubtful = {name for intent in (tokens.left(ledger) if away else tokens.look(ledger)) for name in intent.stages}
    submissions, known = ledger.submissions(), fingerprints(stages)
    sent = {s.name: jobs_of(s, submissions[s.name]) for s in stages if s.name in submissions}
    ids = [one for s in stages for job in sent.get(s.name, []) for one in elements(s, job)]
    jobs = {} if away else query(ids, _since(submissions))
    found: dict[str, StageState] = {}
    for stage in stages:
        waits = [up.name for up in stage.upstream() if up.name in found and found[up.name].word != "done"]
        one = _stage_state(stage, ledger, sent.get(stage.name, []), jobs, known[stage.name], waits)
        if away and one.word == "unknown":
            last = failure_reason(stage, ledger, since=submissions[stage.name]["submitted"])
            more = f"; its last record: failed, {last}" if last else ""
            one = replace(one, detail=f"the scheduler cannot be asked{more}")
        if stage.name in doubtful and one.word != "done" and not one.live:
            one = replace(one, word="unknown" if away else one.word, detail=(away and MAYBE_SENT) or BEGUN)
        found[stage.name] = one
    return found


def status(stages: list[Stage], ledger: Ledger, away: str = "") -> list[StageState]:
    """One a stage, and one a batch of stages. away: as of `each`."""
    found = each(stages, ledger, away)
    batches: dict[str, list[StageState]] = {}
    for stage in stages:
        batches.setdefault(stage.batch or stage.name, []).append(found[stage.name])
    return [of_batch(name, members) for name, members in batches.items()]


def _since(submissions: Mapping[str, Mapping[str, Any]]) -> float:
    return min((row.get("first", row["submitted"]) for row in submissions.values()), default=0.0)


def of_batch(name: str, members: list[StageState]) -> StageState:
    """Its word: on its way while any member is, then that of a member that failed, then done."""
    if len(members) == 1 and members[0].stage == name:
        return members[0]
    counts: Counter[str] = Counter(member.word for member in members)
    word = _first(counts)
    lead = next(member for member in members if member.word == word)
    bad = next((member for member in members if member.word in BAD), None)
    detail = summary(counts)
    if bad and bad.detail:
        detail += f"; {bad.stage}: {bad.detail}"
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
    """sent: as `jobs_of` has it; of each element, the newest job that SLURM knows with it counts."""
    job_id = sent[0] if sent else ""
    names = [(cell, name) for job in reversed(sent) for cell, name in enumerate(elements(stage, job))]
    each = {cell: jobs[name][0] for cell, name in names if name in jobs}
    if not any(job.state in ACTIVE for job in each.values()) and ledger.unfinished(stage, fingerprint) is None:
        records = [ledger.done(stage, cell) for cell in range(stage.array)]
        seconds = max(r.finished for r in records if r) - min(r.started for r in records if r)
        last = max((r for r in records if r), key=lambda record: record.attempts)
        return StageState(stage.name, "done", "", job_id or last.job_id, 1, 1, seconds, last.attempts)
    if not job_id:
        return StageState(stage.name, "not submitted")
    words: dict[int, Word] = {cell: word_of(each[cell]) if cell in each else "unknown" for cell in range(stage.array)}
    if stage.array > 1:
        for cell in words:
            record = ledger.done(stage, cell) if cell not in each or each[cell].state == "COMPLETED" else None
            if record and record.fingerprint == fingerprint:
                words[cell] = "done"
    counts: Counter[str] = Counter(words.values())
    if set(words.values()) <= {"done", "failed", "unknown"} and _done_otherwise(stage, ledger, fingerprint, each):
        return StageState(stage.name, "not submitted", ledger.unfinished(stage, fingerprint) or "", job_id)
    if set(counts) == {"done"}:  # every element has its record, and yet the stage is not finished
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
    """Its jobs ended well, with another configuration (or code) than what the run asks for now."""
    if any(job.state != "COMPLETED" for job in each.values()):
        return False
    records = [ledger.done(stage, cell) for cell in range(stage.array)]
    return all(records) and any(record and record.fingerprint != fingerprint for record in records)


def _detail(word: Word, job: JobState, stage: Stage, ledger: Ledger, waits: list[str]) -> str:
    if word == "waiting":
        return f"for {', '.join(waits)}" if waits else "for a job that is not of this run"
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
    said = failure_reason(stage, ledger, since=job.started)
    if said or word == "cancelled":
        return said or ("what it needs will not be done" if job.reason == "DependencyNeverSatisfied" else "")
    told = {"COMPLETED": NO_RECORD, "OUT_OF_MEMORY": "out of memory"}.get(job.state, "no reason recorded")
    return f"{told}; see `proxygrm why {stage.name}`"


def _progress(stage: Stage, ledger: Ledger, each: Mapping[int, JobState]) -> tuple[int, int, str, float]:
    """Sum over array elements of (done, total), the last note, and when the first running element started.

    What an earlier attempt wrote does not count: a job that was requeued has not got that far again.
    """
    found = []
    for cell, job in each.items():
        if job.state == "PENDING":
            continue  # a thousand waiting cells would be a thousand looks at a shared file system
        row = read_json(ledger.folder / stage.name / f"progress.{cell}.json")
        if row and row["time"] >= job.started:
            found.append(row)
    started = min((job.started for job in each.values() if job.state == "RUNNING" and job.started), default=0.0)
    if not found:
        return 0, 0, "", started
    last = max(found, key=lambda row: row["time"])
    return sum(r["done"] for r in found), sum(r["total"] for r in found), last["note"], started


def failure_reason(stage: Stage, ledger: Ledger, since: float = 0.0) -> str:
    """The first failure the jobs themselves wrote down, with its node; "" when none did since then."""
    for cell in range(stage.array):
        row = read_json(ledger.folder / stage.name / f"FAILED.{cell}.json")
        if row and row["time"] >= since - CLOCKS_DIFFER_S:
            return said(row)
    return ""


def said(failure: Mapping[str, Any]) -> str:
    """What a FAILED record says, in one line: of a long text its first and its last one."""
    lines = [line.strip() for line in failure["reason"].splitlines() if line.strip()] or ["no reason given"]
    text = lines[0] if len(lines) == 1 else f"{lines[0][:200]} ... {lines[-1]}"
    where = f" (on {failure['node']})" if failure["node"] else ""
    return f"{text[:600]}{where}"
