"""What is known of each stage before planning: its identity, what its records prove, its job in the queue."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.engine.plan import Facts, Queued
from jobs.engine.run_folder import reuse, tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.submissions import all_jobs
from jobs.engine.stage import Identity, Stage
from jobs.engine.stage import identities as identities_of
from slurm.scheduler import ACTIVE, query

ENDING_S = 60.0
POLL_S = 0.5


def gather(
    stages: list[Stage],
    ledger: Ledger,
    ask_scheduler: bool = True,
    identities: Mapping[str, Identity] | None = None,
    sources: Sequence[str] = (),
) -> dict[str, Facts]:
    """Everything `plan` needs to know. identities: computed here unless they are known already. sources: other run
    folders, whose finished stages may be reused."""
    if ask_scheduler:
        tokens.find_unrecorded(ledger)
    submissions = ledger.submissions()
    identities = identities_of(stages) if identities is None else identities
    jobs = {s.name: jobs_of(s, submissions[s.name]) for s in stages if s.name in submissions}
    states = query([job for ids in jobs.values() for job in ids], first_sent(submissions)) if ask_scheduler else {}
    finder = reuse.Finder.of(sources)
    facts = {}
    for stage in stages:
        identity = identities[stage.name]
        active = [
            (job, row.state) for job in jobs.get(stage.name, []) for row in states.get(job, []) if row.state in ACTIVE
        ]
        queued = None
        if active:
            sent_with = submissions[stage.name]["fingerprint"]
            change = "" if sent_with == identity.fingerprint else ledger.change(stage, identity.made_of)
            queued = Queued(*active[0], sent_with, change)
        unfinished = ledger.unfinished(stage, identity.fingerprint, identity.made_of)
        elsewhere, not_taken = finder.find(stage, identity) if unfinished else (None, "")
        reused = "" if unfinished else reuse.note(ledger, stage)
        facts[stage.name] = Facts(unfinished, identity, queued, elsewhere, not_taken, reused)
    return facts


def wait_for_ending(stages: list[Stage], ledger: Ledger) -> list[str]:
    """Wait, at most a minute, for jobs of these stages that have ended and whose nodes still clean up, so that none of
    them writes when the next one starts. Returns those that are still ending."""
    submissions = ledger.submissions()
    jobs = [job for s in stages if s.name in submissions for job in jobs_of(s, submissions[s.name])]
    deadline = time.monotonic() + ENDING_S
    while True:
        states = query(jobs, first_sent(submissions))
        ending = [job for job, rows in states.items() if any(row.state == "COMPLETING" for row in rows)]
        if not ending or time.monotonic() > deadline:
            return ending
        time.sleep(POLL_S)


def jobs_of(stage: Stage, row: Mapping[str, Any]) -> list[str]:
    """Jobs that may hold the stage's present work, the newest first: several for an array, because a user may have sent
    some of its elements again."""
    return all_jobs(row)[::-1] if stage.array > 1 else [row["job_id"]]


def elements(stage: Stage, job_id: str) -> list[str]:
    """The scheduler's ids of a stage's elements."""
    return [f"{job_id}_{cell}" for cell in range(stage.array)] if stage.array > 1 else [job_id]


def first_sent(submissions: Mapping[str, Mapping[str, Any]]) -> float:
    """When the first of these jobs was sent."""
    return min((row.get("first", row["submitted"]) for row in submissions.values()), default=0.0)
