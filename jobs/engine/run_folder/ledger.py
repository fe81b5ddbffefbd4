"""The run folder: the request, what is done, what was submitted. Every write is atomic."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from jobs.engine.run_folder import changes, code_version, stage_folder
from jobs.engine.run_folder.ownership import owner_file
from jobs.engine.run_folder.records import from_here, read_json, record_folder, unreadable, write_json, write_text
from jobs.engine.run_folder.submissions import all_jobs, orders_of, submission_row
from jobs.engine.stage import Stage, plain
from proxygrm.core.errors import UserError
from proxygrm.core.files import lock, whole_file
from proxygrm.core.files.durable import sync_folder
from proxygrm.core.files.owner import refuse_foreign
from slurm import private

RECORDING_S = 60.0
"""How long a command waits for another one that writes submissions.json, which takes milliseconds."""
RUN_FORMAT = 3
"""Of run.json. 2: settings by stage name, under the engines' own names; before it there was no such entry. 3: what RL
rewards is below `reward`."""


@dataclass(frozen=True)
class Done:
    """Proof that one element of a stage finished; written last, by the job itself."""

    stage: str
    fingerprint: str
    cell: int
    started: float
    finished: float
    job_id: str
    nodes: list[str]
    peak_memory_mb: int
    attempts: int = 1
    code: str = ""
    """Revision of the code that ran; "" when unknown."""
    snapshot: str = ""
    """Its copy, as a path inside the run folder; "" for a job that was sent by hand, which runs the checkout."""
    claim: str = ""
    """That of the attempt that wrote it (`jobs.engine.run_folder.ownership`); a record with another claim than the
    stage's owner has is not believed."""
    recipe: str = ""
    """Content hash of the user's own file with the function that ran; "" for one of this project (see `code`)."""
    reused_from: str = ""
    """The run folder that did the work (`jobs.engine.run_folder.reuse`); "" for work of this run."""

    @property
    def wall_s(self) -> float:
        return self.finished - self.started

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "wall_s": round(self.wall_s, 1)}


class Ledger:
    """Reads and writes one run folder.

    run.json            the request: recipe, settings, profile, git revision, package versions
    code.diff           the code's uncommitted changes, if any
    code/ID/            the code as it was at a submission, which its jobs run
    ablations/NAME/     run.json and code.diff of an ablation, and its table
    submissions.json    stage -> job id and fingerprint of the last submission
    sending/            submissions that have no job id yet (`jobs.engine.run_folder.tokens`)
    STAGE/              everything a stage writes
    STAGE/DONE.json     DONE.N.json for element N of an array
    STAGE/owner.N.json  the attempt that may write there (`jobs.engine.run_folder.ownership`)
    STAGE/made_of.json  settings, prompts and inputs that its fingerprint is the hash of
    STAGE/FAILED.N.json why its last attempt failed (`jobs.engine.run_folder.failures`)
    STAGE/jobs/         submitit's scripts, pickles and logs
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.unrecorded: dict[str, tuple[str, str, float]] = {}
        """stage -> (job id, fingerprint, time) of jobs that only their token is known of
        (`jobs.engine.run_folder.tokens.find_unrecorded`)."""

    def refuse_foreign(self) -> None:
        refuse_foreign(self.folder, "name a run folder of your own (--run)")

    def create(self) -> None:
        self.refuse_foreign()
        try:
            private.make(self.folder)
            probe = whole_file.beside(self.folder / "probe")  # a name of its own: two commands may do this at once
            try:
                probe.write_text("x")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to the run folder {self.folder}: {error.strerror}; choose another with --run",
                code="run.cannot-write",
                path=self.folder,
            ) from error

    @contextmanager
    def lock(self, command: str) -> Iterator[None]:
        """One submitter at a time: a second one is refused, so that nothing is submitted twice."""
        self.create()
        with lock.held(
            self.folder / ".lock",
            f"another {command} is working in {self.folder}",
            "wait for it, or use another run with --run NAME",
        ):
            yield

    def done_path(self, stage: Stage, cell: int = 0) -> Path:
        name = "DONE.json" if stage.array == 1 else f"DONE.{cell}.json"
        return self.folder / stage.name / name

    def done(self, stage: Stage, cell: int = 0) -> Done | None:
        row = read_json(self.done_path(stage, cell))
        if row is None:
            return None
        owner = read_json(owner_file(self.folder / stage.name, cell))
        if owner and owner.get("claim") != row.get("claim"):
            return None  # an attempt that had lost the stage wrote it, or the present owner started after it
        known = {field.name for field in fields(Done)}  # another version of the code may write more fields
        try:
            return Done(**{key: value for key, value in row.items() if key in known})
        except (TypeError, AttributeError) as error:
            raise unreadable(self.done_path(stage, cell), error) from error

    def write_done(self, stage: Stage, record: Done) -> None:
        path = self.done_path(stage, record.cell)
        write_json(path, record.to_json())
        sync_folder(path.parent)

    def unfinished(self, stage: Stage, fingerprint: str, made_of: Mapping[str, Any] | None = None) -> str | None:
        """Why the stage has to run, in words; None when its DONE records and its checks both hold. made_of: as of
        `Identity`, where it is known already."""
        records = [self.done(stage, cell) for cell in range(stage.array)]
        missing = [cell for cell, record in enumerate(records) if record is None]
        if len(missing) == stage.array:
            return "not done yet"
        if missing:
            return f"{len(missing)} of {stage.array} array elements are not done"
        if any(record and record.fingerprint != fingerprint for record in records):
            return self.change(stage, made_of)
        return self.lost_source(stage, records) or self.failed_check(stage)

    def lost_source(self, stage: Stage, records: Iterable[Done | None]) -> str:
        """Why a stage that was reused from another run is not to be used any more; "" otherwise."""
        for record in records:
            if record and record.reused_from:
                source = Path(record.reused_from)
                try:
                    there = Ledger(source).done(stage, record.cell)
                except (UserError, OSError) as error:
                    return f"{from_here(source)}, which it was reused from, cannot be read: {error}"
                if there is None or replace(there, reused_from=record.reused_from) != record:
                    return f"{from_here(source)} no longer has the work that was reused from it"
        return ""

    def change(self, stage: Stage, made_of: Mapping[str, Any] | None = None) -> str:
        """What differs from the time when the stage's folder was prepared, in words."""
        before = read_json(self.folder / stage.name / stage_folder.MADE_OF)
        return changes.sentence(before, plain(stage.identity().made_of if made_of is None else made_of))

    def failed_check(self, stage: Stage) -> str | None:
        for artifact in stage.makes:
            try:
                artifact.check(self.folder / stage.name / artifact.path)
            except Exception as error:
                return f"{artifact.path} is not usable: {error}"
        return None

    def submissions(self) -> dict[str, dict[str, Any]]:
        """The recorded ones, and those that are not recorded yet (`unrecorded`)."""
        rows = self._recorded()
        for stage, (job_id, fingerprint, sent) in self.unrecorded.items():
            if stage not in rows or job_id not in all_jobs(rows[stage]):
                rows[stage] = submission_row(rows.get(stage), job_id, fingerprint, sent)
        return rows

    def next_time(self) -> float:
        """Now, or later than every submission so far where another machine's clock is ahead."""
        orders = [order for row in self._recorded().values() for order in orders_of(row).values()]
        return max([time.time(), *(order + 0.001 for order in orders)])

    def order(self, stage: Stage, job_id: str) -> float:
        """Of two jobs of a stage the newer one has the higher number; 0 when the job is not known."""
        row = self.submissions().get(stage.name)
        return orders_of(row).get(job_id, 0.0) if row else 0.0

    def _recorded(self) -> dict[str, dict[str, Any]]:
        path = self.folder / "submissions.json"
        rows = read_json(path) or {}
        try:
            for row in rows.values():
                row["job_id"], row["fingerprint"], row["submitted"]
        except (AttributeError, TypeError, KeyError) as error:
            raise unreadable(path, error) from error
        return rows

    @contextmanager
    def _recording(self) -> Iterator[dict[str, dict[str, Any]]]:
        """The submissions, to be changed and written by one process at a time: jobs sent by hand write them too."""
        private.make(self.folder)
        busy = f"another command has been writing submissions.json of {self.folder} for {RECORDING_S:.0f} s"
        with lock.held(self.folder / ".submissions.lock", busy, wait_s=RECORDING_S):
            rows = self._recorded()
            yield rows
            write_json(self.folder / "submissions.json", rows)

    def record_submissions(self, sent: Mapping[str, tuple[str, str]], when: float | None = None) -> None:
        """sent: stage -> (job id, fingerprint). when: time of the submission; now by default."""
        now = time.time() if when is None else when
        with self._recording() as rows:
            for stage, (job_id, fingerprint) in sent.items():
                rows[stage] = submission_row(rows.get(stage), job_id, fingerprint, now)

    def record_by_hand(
        self, stage: Stage, fingerprint: str, job_id: str, sent: float, made_of: Mapping[str, Any] | None = None
    ) -> None:
        """What a submission does with the stage's folder and records, done by a job that was sent by hand, as it
        starts.

        Only the first start of an array, or of a requeued job, does it. sent: when sbatch accepted the job.
        """
        with self._recording() as rows:
            before = rows.get(stage.name)
            if before and job_id in all_jobs(before) and before["fingerprint"] == fingerprint == self.marked(stage):
                return
            self.prepare(stage, fingerprint, made_of=made_of)
            rows[stage.name] = submission_row(before, job_id, fingerprint, sent)

    def marked(self, stage: Stage) -> str | None:
        """The fingerprint that the stage's folder was prepared for; None when it was not."""
        return stage_folder.marked(self.folder / stage.name)

    def prepare(
        self, stage: Stage, fingerprint: str, redo: bool = False, made_of: Mapping[str, Any] | None = None
    ) -> None:
        """Prepare the stage's folder for a submission.

        Unfinished work of the same fingerprint stays, to be resumed; work of another one is moved aside (not
        deleted), because resuming from it would mix two configurations.
        """
        folder = self.folder / stage.name
        if redo or self.marked(stage) != fingerprint or stage_folder.is_reused(folder):
            stage_folder.move_aside(folder)
        private.make(self.folder)
        private.make(folder, below=self.folder)
        write_json(folder / stage_folder.MADE_OF, stage.identity().made_of if made_of is None else made_of)
        write_text(folder / stage_folder.MARK, fingerprint)
        if self.failed_check(stage):  # a record whose artifact is gone does not count
            for cell in range(stage.array if stage.array == 1 else 0):
                self.done_path(stage, cell).unlink(missing_ok=True)
        for failure in folder.glob("FAILED.*.json"):
            failure.unlink()

    def record_run(
        self,
        request: Any,
        settings: Any,
        profile: Any,
        fingerprints: Mapping[str, str],
        ablation: str = "",
        report: Any = None,
    ) -> int:
        """Everything needed to repeat the run, without secrets: `run.json`, and `code.diff` when the code has
        uncommitted changes. ablation: its name; each has its own record beside the chain's. report: what the page
        shows.

        Returns how many lines of the difference are left out because they look like a secret.
        """
        folder = record_folder(self.folder, ablation)
        private.make(self.folder)
        (difference, left_out), file = code_version.masked_diff(), folder / "code.diff"
        if difference:
            write_text(file, difference, mode=0o600)  # no pattern knows every secret: others cannot read it at least
        else:
            file.unlink(missing_ok=True)
        write_json(
            folder / "run.json",
            {
                "format": RUN_FORMAT,
                "name": self.folder.name,
                "request": request,
                "settings": plain(settings),
                "profile": plain(profile),
                "fingerprints": dict(fingerprints),
                "report": plain(report),
                "git": code_version.git_revision(),
                "code_diff_lines_left_out": left_out,
                "packages": code_version.package_versions(),
                "written": time.time(),
            },
        )
        return left_out
