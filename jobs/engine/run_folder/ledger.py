"""The run folder: what was asked, what is finished, what was submitted. Every write is atomic."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from jobs.engine import secrecy
from jobs.engine.run_folder import changes
from jobs.engine.run_folder.submissions import all_jobs, orders_of, submission_row
from jobs.engine.stage import Given, Stage, plain
from proxygrm.core.checkpoints.code import LoadableCheckpoint
from proxygrm.core.errors import UserError, barred
from proxygrm.core.files import lock, whole_file
from proxygrm.core.files.durable import sync_folder
from proxygrm.core.files.owner import refuse_foreign
from proxygrm.core.files.user_text import read_user_text
from slurm import private

RECORDING_S = 60.0
"""How long one waits for another that writes submissions.json, which takes milliseconds."""
CODE = Path(__file__).resolve().parents[3]
MADE_OF = "made_of.json"
"""Of a stage's folder: what its fingerprint is the hash of, so that a plan can name what changed."""
REVISION = "REVISION"
"""File of a copy of the code (`jobs.engine.run_folder.snapshot`): the git revision it was copied from."""
PACKAGES = (
    "proxygrm-suite",
    "submitit",
    "ray",
    "verl",
    "vllm",
    "ms-swift",
    "torch",
    "transformers",
    "pyarrow",
    "click",
    "swanlab",
)


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
    """Revision of the code that ran; "" where nobody knows it."""
    snapshot: str = ""
    """Its copy, by the path inside the run folder; "" of a job that was sent by hand, which runs the checkout."""
    attempt: str = ""
    """The attempt that wrote it (`jobs.engine.run_folder.ownership`); a record of another one than the stage's owner is
    not believed."""

    @property
    def wall_s(self) -> float:
        return self.finished - self.started


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(plain(value), indent=2))


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write, flush to disk, rename: a reader sees the old file or the new one, never a half. Not for others to write,
    whatever the umask is: the next submit does what run.json says."""
    try:
        whole_file.write_text(path, text, mode)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space or choose another --run folder") from error


def read_json(path: Path) -> Any | None:
    """The file's content; None when it is not there. A torn file is an error: somebody else wrote it."""
    try:
        return json.loads(read_user_text(path))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OSError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UserError:
    """Of a record that is torn, that somebody else wrote, or that may not be read."""
    if not (why := barred(error)):
        what = "it is not what a command of this suite wrote" if isinstance(error, WRONG_SHAPE) else "it is not JSON"
        why = f"{what} ({error}); {REMEDIES.get(path.name, 'delete it to have its stage run again')}"
    return UserError(f"{path} cannot be read: {why}")


WRONG_SHAPE = (KeyError, TypeError, AttributeError)
REMEDIES = {
    "run.json": "a submit with --profile, --run and what the run was asked for writes it again",
    "submissions.json": "end the jobs of this run (squeue, scancel), then delete it: what is done stays done",
}


class Ledger:
    """Reads and writes one run folder.

    run.json            what was asked: experiment, profile, git revision, package versions
    code.diff           the code's uncommitted changes, if any
    code/ID/            the code as it was at a submission, which its jobs run
    ablations/NAME/     both of an ablation, and its table
    submissions.json    stage -> job id and fingerprint of the last submission
    sending/            submissions that were begun and have no job id yet (`jobs.engine.run_folder.tokens`)
    STAGE/              everything a stage writes
    STAGE/DONE.json     DONE.N.json for element N of an array
    STAGE/owner.N.json  the attempt that may write there (`jobs.engine.run_folder.ownership`)
    STAGE/made_of.json  settings, prompts and inputs that its fingerprint stands for
    STAGE/jobs/         submitit's scripts, pickles and logs
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.unrecorded: dict[str, tuple[str, str, float]] = {}
        """stage -> (job id, fingerprint, when) of jobs that were found by their token
        (`jobs.engine.run_folder.tokens.look`)."""

    def refuse_foreign(self) -> None:
        refuse_foreign(self.folder, "name a run folder of your own (--run)")

    def create(self) -> None:
        self.refuse_foreign()
        try:
            private.make(self.folder)
            probe = whole_file.beside(self.folder / "probe")  # of this submitter alone: two may come at once
            try:
                probe.write_text("x")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to the run folder {self.folder}: {error.strerror}; choose another with --run"
            ) from error

    @contextmanager
    def lock(self, what: str) -> Iterator[None]:
        """One submitter at a time: a second one is told, and nothing is submitted twice."""
        self.create()
        with lock.held(
            self.folder / ".lock",
            f"another {what} is working in {self.folder}",
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
        if owner and owner.get("attempt") != row.get("attempt"):
            return None  # an attempt that had lost the stage wrote it, or one that has it now began after it
        known = {field.name for field in fields(Done)}  # another version of the code may write more
        try:
            return Done(**{key: value for key, value in row.items() if key in known})
        except (TypeError, AttributeError) as error:
            raise unreadable(self.done_path(stage, cell), error) from error

    def write_done(self, stage: Stage, record: Done) -> None:
        path = self.done_path(stage, record.cell)
        write_json(path, {**asdict(record), "wall_s": round(record.wall_s, 1)})
        sync_folder(path.parent)

    def unfinished(self, stage: Stage, fingerprint: str) -> str | None:
        """Why the stage has to run, in words; None when its DONE records and its checks both hold."""
        records = [self.done(stage, cell) for cell in range(stage.array)]
        missing = [cell for cell, record in enumerate(records) if record is None]
        if len(missing) == stage.array:
            return "not done yet"
        if missing:
            return f"{len(missing)} of {stage.array} array elements are not done"
        if any(record and record.fingerprint != fingerprint for record in records):
            return self.change(stage)
        return self.failed_check(stage)

    def change(self, stage: Stage) -> str:
        """What is no longer as it was when the stage's folder was made ready, in words."""
        return changes.sentence(read_json(self.folder / stage.name / MADE_OF), plain(stage.facts()))

    def failed_check(self, stage: Stage) -> str | None:
        for artifact in stage.makes:
            try:
                artifact.check(self.folder / stage.name / artifact.path)
            except Exception as error:
                return f"{artifact.path} is not usable: {error}"
        return None

    def submissions(self) -> dict[str, dict[str, Any]]:
        """As recorded, and what is known of jobs that are not (`unrecorded`)."""
        rows = self._recorded()
        for stage, (job_id, fingerprint, sent) in self.unrecorded.items():
            if stage not in rows or job_id not in all_jobs(rows[stage]):
                rows[stage] = submission_row(rows.get(stage), job_id, fingerprint, sent)
        return rows

    def next_time(self) -> float:
        """Now, and later than every submission so far, also where another machine's clock is ahead."""
        orders = [order for row in self._recorded().values() for order in orders_of(row).values()]
        return max([time.time(), *(order + 0.001 for order in orders)])

    def order(self, stage: Stage, job_id: str) -> float:
        """Of two jobs of a stage the one with the higher number is the newer; 0 of one that is not known."""
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
        """The submissions, to be changed and written: by one at a time, because jobs sent by hand come in between."""
        private.make(self.folder)
        busy = f"another command has been writing submissions.json of {self.folder} for {RECORDING_S:.0f} s"
        with lock.held(self.folder / ".submissions.lock", busy, wait_s=RECORDING_S):
            rows = self._recorded()
            yield rows
            write_json(self.folder / "submissions.json", rows)

    def record_submissions(self, sent: Mapping[str, tuple[str, str]], when: float | None = None) -> None:
        """sent: stage -> (job id, fingerprint). when: of the submission; now by default."""
        now = time.time() if when is None else when
        with self._recording() as rows:
            for stage, (job_id, fingerprint) in sent.items():
                rows[stage] = submission_row(rows.get(stage), job_id, fingerprint, now)

    def record_by_hand(self, stage: Stage, fingerprint: str, job_id: str, sent: float) -> None:
        """What a submission does with the stage's folder and records, done by a job that a person sent, as it starts.

        Of an array, and of a job that was requeued, the first start alone does it. sent: when sbatch took the job.
        """
        with self._recording() as rows:
            before = rows.get(stage.name)
            if before and job_id in all_jobs(before) and before["fingerprint"] == fingerprint == self.marked(stage):
                return
            self.prepare(stage, fingerprint)
            rows[stage.name] = submission_row(before, job_id, fingerprint, sent)

    def marked(self, stage: Stage) -> str | None:
        """The fingerprint that the stage's folder was made ready for; None: it was not."""
        try:
            return (self.folder / stage.name / "fingerprint").read_text()
        except FileNotFoundError:  # also where the folder is moved aside in this moment
            return None

    def prepare(self, stage: Stage, fingerprint: str, redo: bool = False) -> None:
        """Make the stage's folder ready for a submission.

        Unfinished work of the same fingerprint stays, to be resumed; work of another one is moved aside (not
        deleted), because resuming from it would mix two configurations.
        """
        folder = self.folder / stage.name
        if folder.exists():
            before = self.marked(stage) or "unknown"
            if before != fingerprint or redo:
                aside = folder.with_name(f"{stage.name}.{before}")
                number = 1
                while aside.exists():
                    number += 1
                    aside = folder.with_name(f"{stage.name}.{before}.{number}")
                folder.rename(aside)
        private.make(self.folder)
        private.make(folder, below=self.folder)
        write_json(folder / MADE_OF, stage.facts())
        write_text(folder / "fingerprint", fingerprint)
        if self.failed_check(stage):  # records whose proof is gone do not count
            for cell in range(stage.array if stage.array == 1 else 0):
                self.done_path(stage, cell).unlink(missing_ok=True)
        for failure in folder.glob("FAILED.*.json"):
            failure.unlink()

    def record_run(
        self, request: Any, experiment: Any, profile: Any, stages: Mapping[str, str], ablation: str = ""
    ) -> int:
        """Everything needed to repeat the run (and nothing secret): `run.json`, and `code.diff` where the code is not
        that of a commit. ablation: its name; each has a record of its own beside the chain's.

        Returns how many lines of the difference are left out since they look like a secret.
        """
        folder = record_folder(self.folder, ablation)
        private.make(self.folder)
        (difference, left_out), file = masked_diff(), folder / "code.diff"
        if difference:
            write_text(file, difference, mode=0o600)  # what no pattern knows is at least not for others to read
        else:
            file.unlink(missing_ok=True)
        write_json(
            folder / "run.json",
            {
                "name": self.folder.name,
                "request": request,
                "experiment": plain(experiment),
                "profile": plain(profile),
                "fingerprints": dict(stages),
                "git": git_revision(),
                "code_diff_lines_left_out": left_out,
                "packages": {name: version(name) for name in PACKAGES},
                "written": time.time(),
            },
        )
        return left_out


def record_folder(run_dir: Path, ablation: str = "") -> Path:
    """Where it stands what was asked for: of the chain, or of an ablation of it."""
    return run_dir / "ablations" / ablation if ablation else run_dir


def record_files(run_dir: Path) -> list[Path]:
    """Every run.json of a run folder, the chain's first; [] of another folder."""
    chain = record_folder(run_dir) / "run.json"
    return [*([chain] if chain.exists() else []), *sorted(run_dir.glob("ablations/*/run.json"))]


def owner_file(folder: Path, cell: int) -> Path:
    """Of a stage's folder."""
    return folder / f"owner.{cell}.json"


def missing_givens(stages: list[Stage]) -> list[str]:
    """One line for each data set or checkpoint a chain needs and that is not usable where it should stand."""
    problems: dict[str, str] = {}
    for stage in stages:
        for label, need in stage.needs.items():
            if isinstance(need, Given) and need.path not in problems:
                try:
                    need.check(need.resolve())
                except Exception as error:
                    model = (
                        isinstance(need.check, LoadableCheckpoint)
                        and need.path.count("/") == 1
                        and need.path[0].isalnum()
                    )
                    hub = model and not need.resolve().exists()
                    hint = f" (a hub name? `hf download {need.path}` puts it where jobs find it)" if hub else ""
                    problems[need.path] = f"{stage.name} needs {label} at {need.path}: {error}{hint}"
    return list(problems.values())


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_revision(root: Path = CODE) -> str | None:
    """Revision of the code, with `-dirty` when it has uncommitted changes; None outside a checkout."""
    if (root / REVISION).is_file():
        return (root / REVISION).read_text().strip()
    return (_git(root, "describe", "--always", "--dirty", "--abbrev=12") or "").strip() or None


def masked_diff(root: Path = CODE) -> tuple[str, int]:
    """Uncommitted changes of files that git knows, and how many of their lines look like a secret and are left out;
    ("", 0) when there are none."""
    return secrecy.masked(_git(root, "diff", "HEAD", "--no-color", "--no-ext-diff") or "")


def _git(root: Path, *arguments: str) -> str | None:
    """Of the repository whose top the folder is: not of one around it, nor of one that the shell names (GIT_DIR)."""
    if not (root / ".git").exists():
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
