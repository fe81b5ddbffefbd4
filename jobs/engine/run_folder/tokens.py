"""Submissions in progress: a random token, on disk before sbatch runs, in the job's comment and its script's name.

RUN/sending/TOKEN.json exists from before sbatch until the job's id is recorded. One that remains (the sender was
killed, sbatch lost the controller's answer) is settled by asking SLURM for the token: a job that has it is recorded
as if nothing had happened; if SLURM answers that it has none, nothing was sent; if it does not answer, nothing more is
sent. Commands that only read show such jobs, and write nothing.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import WRONG_SHAPE, read_json, unreadable, write_json
from proxygrm.core.files.durable import sync_folder
from slurm import private, scheduler
from slurm.commands import NoAnswer

PREFIX = "proxygrm-"
IN_DOUBT_S = 30.0
"""A busy controller may accept a job whose sbatch has given up already; it is looked for that long."""
POLL_S = 1.0


@dataclass(frozen=True)
class Intent:
    """A submission that was started. stages: their fingerprints, in the order of the array's elements. elements: of the
    array, 1 for a plain job. logs: folder of its pickles, inside the run folder."""

    token: str
    stages: Mapping[str, str]
    elements: int
    logs: str
    begun: float
    host: str
    pid: int

    @property
    def what(self) -> str:
        names = list(self.stages)
        return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

    def ids(self, job: str) -> dict[str, str]:
        """Stage -> job id; for an array of one stage's own elements the array's."""
        if len(self.stages) == 1:
            return dict.fromkeys(self.stages, job)
        return {name: f"{job}_{number}" for number, name in enumerate(self.stages)}

    def count(self, ledger: Ledger, job: str) -> None:
        """Add the job to the ledger in memory, for the life of this process."""
        for name, job_id in self.ids(job).items():
            ledger.unrecorded[name] = (job_id, self.stages[name], self.begun)


def begin(ledger: Ledger, stages: Mapping[str, str], elements: int, logs: Path) -> Intent:
    """On disk when it returns: file, name and folder."""
    intent = Intent(
        token=PREFIX + secrets.token_hex(12),
        stages=dict(stages),
        elements=elements,
        logs=str(logs.relative_to(ledger.folder)),
        begun=ledger.next_time(),
        host=platform.node(),
        pid=os.getpid(),
    )
    private.make(_folder(ledger), 0o700)
    write_json(_file(ledger, intent.token), asdict(intent))
    sync_folder(_folder(ledger))
    sync_folder(ledger.folder)
    return intent


def end(ledger: Ledger, intent: Intent) -> None:
    """Forget the submission: its job is recorded, or there is none."""
    _file(ledger, intent.token).unlink(missing_ok=True)


def unsettled(ledger: Ledger) -> list[Intent]:
    """Submissions that were started and have no end yet, in the order in which they were started."""
    intents = []
    for path in _folder(ledger).glob(f"{PREFIX}*.json"):
        if (row := read_json(path)) is None:
            continue  # ended just now
        try:
            intents.append(Intent(**row))
        except WRONG_SHAPE as error:
            raise unreadable(path, error) from error
    return sorted(intents, key=lambda intent: intent.begun)


def find_unrecorded(ledger: Ledger) -> list[Intent]:
    """Add jobs that were sent and not recorded to the ledger in memory; nothing is written. Returns the submissions
    that SLURM has no job of.

    Raises NoAnswer when SLURM cannot be asked.
    """
    ledger.unrecorded = {}
    intents = unsettled(ledger)
    jobs = _jobs(intents)
    for intent in intents:
        if job := jobs.get(intent.token):
            intent.count(ledger, job)
    return [intent for intent in intents if intent.token not in jobs]


def settle(ledger: Ledger) -> list[str]:
    """Give every started submission an end, under the run folder's lock; returns what became of them, in words.

    Raises NoAnswer when SLURM cannot be asked: then nothing may be sent.
    """
    messages = []
    for intent in unsettled(ledger):
        try:
            job = wait_for(intent)
        except NoAnswer as error:
            raise NoAnswer(
                f"a submission of {intent.what} was started at {_clock(intent)} and it is not known whether SLURM "
                f"accepted it: {error}; nothing was sent",
                code="submit.in-doubt",
                stages=[*intent.stages],
            ) from error
        if job:
            record(ledger, intent, job)
            messages.append(f"{intent.what} had been sent at {_clock(intent)} as job {job} and not recorded; it is now")
        else:
            drop(ledger, intent)
            messages.append(
                f"the submission of {intent.what} that was started at {_clock(intent)} had not reached SLURM"
            )
    ledger.unrecorded = {}
    return messages


def record(ledger: Ledger, intent: Intent, job: str) -> dict[str, str]:
    """Write the job's id into the ledger and give the job's files their names. Returns stage -> job id."""
    from slurm import submission as sbatch

    ids = intent.ids(job)
    ledger.record_submissions({name: (ids[name], intent.stages[name]) for name in ids}, intent.begun)
    sbatch.take_over(ledger.folder / intent.logs, intent.token, job, intent.elements)
    end(ledger, intent)
    return ids


def drop(ledger: Ledger, intent: Intent) -> None:
    """Forget a submission that SLURM has no job of."""
    from slurm import submission as sbatch

    sbatch.clear(ledger.folder / intent.logs, intent.token)
    end(ledger, intent)


def wait_for(intent: Intent, since: float = 0.0) -> str:
    """The job that has the token; "" when SLURM still knows none after IN_DOUBT_S. since: when sbatch gave up.

    Raises NoAnswer when SLURM did not answer the last question in that time.
    """
    deadline = max(since, intent.begun) + IN_DOUBT_S
    while True:
        last = time.time() >= deadline
        try:
            if job := _jobs([intent]).get(intent.token):
                return job
            if last:
                return ""
        except NoAnswer:
            if last or not since:  # a user waits for a command's answer; a submission has more patience
                raise
        time.sleep(POLL_S)


def _jobs(intents: list[Intent]) -> dict[str, str]:
    """Token -> job id, of those that SLURM has."""
    if not intents:
        return {}
    return scheduler.find([intent.token for intent in intents], min(intent.begun for intent in intents))


def _clock(intent: Intent) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(intent.begun))


def _folder(ledger: Ledger) -> Path:
    return ledger.folder / "sending"


def _file(ledger: Ledger, token: str) -> Path:
    return _folder(ledger) / f"{token}.json"
