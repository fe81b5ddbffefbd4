"""Work of other runs that counts here (`--reuse RUN`): found by fingerprint and code, linked, never copied or changed.

A reused stage is a folder of links into the other run, with DONE records of its own that name that run. The links are
symbolic: they cross file systems, work for a run of another user, and show where the work is. A stage that runs here
after all starts in an empty folder (`stage_folder.move_aside`), so that nothing is written through a link. Where the
work over there is redone or removed, the next plan here runs the stage itself.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.engine.run_folder import changes, code_version, snapshot, stage_folder
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.run_folder.records import from_here, read_json, write_json, write_text
from jobs.engine.run_folder.stage_folder import MADE_OF, MARK
from jobs.engine.stage import Identity, Stage, plain
from proxygrm.core.errors import UserError
from proxygrm.core.files.owner import OTHERS_WRITE, name_of
from proxygrm.core.files.whole_file import beside
from slurm import private

USED_BY = "used_by"
"""In a run folder: a file for each run that has links to its stages."""


@dataclass(frozen=True)
class Elsewhere:
    """A stage as another run has finished it."""

    run: Path
    """Where its files are."""
    records: tuple[Done, ...]

    def __str__(self) -> str:
        return in_words(self.records[0], self.run)


def note(ledger: Ledger, stage: Stage) -> str:
    """Where a finished stage was reused from, in words; "" for work of this run."""
    record = ledger.done(stage)
    return in_words(record, Path(record.reused_from)) if record and record.reused_from else ""


def in_words(record: Done, run: Path) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.finished))
    return f"reused from {from_here(run)} (done {when}, job {record.job_id})"


@dataclass(frozen=True)
class Finder:
    """Looks for finished stages in other runs."""

    sources: tuple[Path, ...]
    revision: str
    """Of the code as it is now."""
    code: str
    """Name of its copy, which is made of its content."""

    @classmethod
    def of(cls, sources: Iterable[str]) -> Finder:
        """sources: run folders, the first that has a stage counts."""
        folders = tuple(Path(source) for source in sources)
        if not folders:
            return cls((), "", "")
        return cls(folders, code_version.git_revision() or "unknown", snapshot.planned(Path()).name)

    def find(self, stage: Stage, identity: Identity) -> tuple[Elsewhere | None, str]:
        """The stage as another run has it, or why those that have one like it were not taken, in words."""
        reasons = []
        for source in self.sources:
            try:
                result = self._in(source, stage, identity)
            except (UserError, OSError) as error:
                result = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
            if isinstance(result, Elsewhere):
                return result, ""
            if result:
                reasons.append(f"not reused from {from_here(source)}: {result}")
        return None, "; ".join(reasons)

    def _in(self, source: Path, stage: Stage, identity: Identity) -> Elsewhere | str:
        """ "" where the run has nothing of this stage."""
        if not source.is_dir():
            return "there is no such folder any more"
        there = Ledger(source.resolve())
        if not (there.folder / stage.name).is_dir():
            return ""
        records = [there.done(stage, cell) for cell in range(stage.array)]
        done = tuple(record for record in records if record)
        if not done or len(done) < stage.array:
            before = read_json(there.folder / stage.name / MADE_OF)
            other = _differences(before, identity) if before and not done else []
            return _made_with(other) if other else "not done there"
        if any(record.fingerprint != identity.fingerprint for record in done):
            return _made_with(_differences(read_json(there.folder / stage.name / MADE_OF), identity))
        reason = next(filter(None, (self._other_code(record, stage) for record in done)), "")
        if not reason and done[0].reused_from:
            reason, there = there.lost_source(stage, done), Ledger(Path(done[0].reused_from))
        reason = reason or there.failed_check(stage) or untrusted(there.folder, stage)
        if reason:
            return reason
        return Elsewhere(there.folder, tuple(replace(record, reused_from=str(there.folder)) for record in done))

    def _other_code(self, record: Done, stage: Stage) -> str:
        """Why the code that did the work does not count as the code of now; "" where it does.

        The copy that a job ran is named by its content. A job that was sent by hand ran the checkout itself: of it the
        revision is known, unless it had uncommitted changes.
        """
        own = code_version.own_code(stage.run)
        if own != record.recipe or own == code_version.UNREADABLE:
            return "the file with its function has changed"
        if record.snapshot:
            same = Path(record.snapshot).name == self.code
        else:
            same = record.code == self.revision != "unknown" and not record.code.endswith("-dirty")
        if same:
            return ""
        if record.code == self.revision:
            return f"made by code {record.code} with other uncommitted changes"
        return f"made by code {record.code or 'of an unknown revision'}, this is {self.revision}"


def _differences(before: object, identity: Identity) -> list[str]:
    return changes.between(before, plain(identity.made_of)) if isinstance(before, dict) else []


def _made_with(differences: Sequence[str]) -> str:
    listed = ", ".join(differences[: changes.MAX_SHOWN])
    more = f" and {len(differences) - changes.MAX_SHOWN} more" if len(differences) > changes.MAX_SHOWN else ""
    return f"made otherwise there: {listed}{more}" if listed else "made with other settings, prompts or data there"


def untrusted(run: Path, stage: Stage) -> str:
    """Why the stage's files of another run must not be used; "" when they may.

    Everything belongs to one user, and nobody else may write to it. Where that is not the present user, nothing is
    taken that a program would unpickle: its content would run as code.
    """
    owner = run.stat().st_uid
    foreign = owner != os.geteuid()
    for path in _every(run, stage):
        status = path.stat()
        if status.st_uid != owner:
            return f"{path} belongs to {name_of(status.st_uid)}, the run to {name_of(owner)}"
        if status.st_mode & OTHERS_WRITE:
            return f"others may write to {path} (chmod go-w)"
        if path.is_symlink() and path.is_dir():
            return f"{path} is a link to a folder"
        if foreign and path.suffix in private.UNPICKLED:
            return f"loading {path} would run code of {name_of(owner)}"
    return ""


def _every(run: Path, stage: Stage) -> Iterator[Path]:
    """The folders down to the stage's, its DONE records, and all that would be linked."""
    folder = run / stage.name
    yield from private.between(folder, run)
    yield run
    yield from folder.glob("DONE*.json")
    for entry in _work(folder, stage):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            for root, folders, names in os.walk(entry):
                yield from (Path(root, name) for name in (*folders, *names))


def _work(folder: Path, stage: Stage) -> list[Path]:
    """What a stage has made, beside its artifacts too (other stages and the report read it), without the records of its
    jobs and what only served to resume it."""
    made = {Path(artifact.path).parts[0] for artifact in stage.makes}
    left = {Path(pattern).parts[0] for pattern in stage.leftovers} - made
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.name in made or not (stage_folder.is_record(entry) or entry.name in left)
    )


def link(ledger: Ledger, stage: Stage, identity: Identity, elsewhere: Elsewhere) -> None:
    """Use the stage of another run in this one. What stands in its folder is moved aside. Raises UserError."""
    folder, source = ledger.folder / stage.name, Ledger(elsewhere.run)
    private.make(folder.parent, below=ledger.folder)
    scratch = beside(folder)
    try:
        private.make(scratch)
        for entry in _work(source.folder / stage.name, stage):
            (scratch / entry.name).symlink_to(entry)
        write_json(scratch / MADE_OF, identity.made_of)
        write_text(scratch / MARK, identity.fingerprint)
        for record in elsewhere.records:
            write_json(scratch / ledger.done_path(stage, record.cell).name, record.to_json())
        stage_folder.move_aside(folder)
        scratch.rename(folder)
    except OSError as error:
        raise UserError(
            f"cannot link {stage.name} of {elsewhere.run}: {error.strerror}; choose another --run, or leave out "
            "--reuse",
            code="reuse.cannot-link",
            path=str(folder),
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if reason := ledger.unfinished(stage, identity.fingerprint, identity.made_of):
        stage_folder.remove_links(folder)
        raise UserError(
            f"{stage.name} of {elsewhere.run} has changed meanwhile ({reason}); submit again", code="reuse.changed"
        )
    _tell(elsewhere.run, ledger.folder, stage.name)


def _tell(source: Path, user: Path, stage: str) -> None:
    """Leave this run's name in the other one; that of another user cannot be written, and need not be."""
    if source.stat().st_uid != os.geteuid():
        return
    file = source / USED_BY / f"{hashlib.sha256(str(user).encode()).hexdigest()[:16]}.json"
    with suppress(UserError, OSError):
        stages = (read_json(file) or {}).get("stages", [])
        private.make(file.parent)
        write_json(file, {"run": str(user), "stages": sorted({*stages, stage})})


def users(run: Path) -> dict[str, list[str]]:
    """Stage -> the run folders that still use it by links, as far as they left their names."""
    by_stage: dict[str, list[str]] = {}
    for file in sorted((run / USED_BY).glob("*.json")):
        with suppress(UserError, OSError, KeyError, TypeError):
            row = read_json(file) or {}
            for stage in row["stages"]:
                records = (read_json(path) or {} for path in Path(row["run"], stage).glob("DONE*.json"))
                if any(record.get("reused_from") == str(run) for record in records):
                    by_stage.setdefault(stage, []).append(row["run"])
    return by_stage
