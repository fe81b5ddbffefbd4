"""What a run folder holds that no DONE record needs, and how it is removed (`proxygrm clean`).

It goes only for what the run itself wrote and can name: stage folders that were moved aside, checkpoints that stages
declare as of no use once they are done (`Stage.leftovers`), copies of the code that no record names, and files that a
writer left half written. Logs, records and rollouts stay. No link is followed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.engine.plan import log_folder
from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json, record_files
from jobs.engine.run_folder.submissions import all_jobs
from jobs.engine.stage import Stage
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import beside
from slurm import scheduler

SCRATCH_AGE_S = 3600.0
"""A half-written file that was not touched for so long has no writer any more."""
_SCRATCH = re.compile(r"\..+\.[0-9a-f]{12}")
"""Names that `proxygrm.core.files.whole_file.beside` makes."""
_ASIDE = r"\.([0-9a-f]{16}|unknown)(\.\d+)?"
_COPY = re.compile(r"code/([0-9a-f]{12})\b")


@dataclass(frozen=True)
class Removable:
    path: Path
    why: str
    size: int = 0
    """Bytes on the disk that its removal frees: a file with another name elsewhere frees none."""


def removable(stages: Iterable[Stage], ledger: Ledger) -> list[Removable]:
    """In the order of the run folder. Reads only."""
    stages, run = list(stages), ledger.folder.resolve()
    reasons = {path: why for path, why in _all(stages, ledger, run) if _inside(path, run)}
    within = [path for path in reasons if not any(parent in reasons for parent in path.parents)]
    sizes = _sizes(within)
    return [Removable(path, reasons[path], sizes[path]) for path in sorted(within)]


def _all(stages: list[Stage], ledger: Ledger, run: Path) -> Iterator[tuple[Path, str]]:
    aside = list(_aside(stages, ledger, run))
    yield from ((path, "work of an earlier configuration, moved aside") for path in aside)
    for stage in stages:
        left = [path for pattern in stage.leftovers for path in (run / stage.name).glob(pattern)]
        if left and ledger.unfinished(stage, stage.fingerprint()) is None:
            yield from ((path, f"served to resume {stage.name}, which is done") for path in left)
    needed = _copies_needed(stages, ledger, run, aside)
    for copy in (run / "code").glob("*"):
        if not copy.name.startswith(".") and copy.name not in needed:
            yield copy, "code that no finished stage or last job ran"
    yield from ((path, "left by a writer that was killed") for path in _scratch(run))


def _aside(stages: list[Stage], ledger: Ledger, run: Path) -> Iterator[Path]:
    """STAGE.FINGERPRINT of every stage that the run was ever asked for."""
    names = dict.fromkeys([*(stage.name for stage in stages), *ledger.submissions(), *_recorded(run)])
    for name in names:
        shape = re.compile(re.escape(Path(name).name) + _ASIDE)
        yield from (path for path in (run / name).parent.glob(f"{Path(name).name}.*") if shape.fullmatch(path.name))


def _recorded(run: Path) -> Iterator[str]:
    for file in record_files(run):
        yield from (read_json(file) or {}).get("fingerprints") or {}


def _copies_needed(stages: list[Stage], ledger: Ledger, run: Path, aside: Iterable[Path]) -> set[str]:
    """Names of the code's copies that a DONE record names, or the script of a stage's last job."""
    gone = tuple(aside)
    records = (path for path in _walk(run) if path.name.startswith("DONE") and path.suffix == ".json")
    rows: list[Mapping[str, Any]] = [
        read_json(path) or {} for path in records if not any(path.is_relative_to(folder) for folder in gone)
    ]
    needed = {Path(row["snapshot"]).name for row in rows if row.get("snapshot")}
    last = ledger.submissions()
    for stage in stages:
        if row := last.get(stage.name):
            script = log_folder(run, stage) / f"{row['job_id'].split('_')[0]}_submission.sh"
            if script.is_file():
                needed |= set(_COPY.findall(script.read_text(errors="replace")))
    return needed


def _scratch(run: Path) -> Iterator[Path]:
    limit = time.time() - SCRATCH_AGE_S
    return (path for path in _walk(run) if _SCRATCH.fullmatch(path.name) and path.lstat().st_mtime < limit)


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder, without following links."""
    for root, folders, names in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *names))


def _inside(path: Path, run: Path) -> bool:
    """No link leads to it from the run folder; it may be one itself."""
    return path.parent.resolve() == path.parent and path.is_relative_to(run)


def _sizes(paths: Iterable[Path]) -> dict[Path, int]:
    """Bytes that the removal of all of them frees, each inode at its first path."""
    names: Counter[tuple[int, int]] = Counter()
    inodes: dict[tuple[int, int], tuple[Path, os.stat_result]] = {}
    sizes = dict.fromkeys(paths, 0)
    for path in sizes:
        for file in (path, *(_walk(path) if path.is_dir() and not path.is_symlink() else ())):
            status = file.lstat()
            names[status.st_dev, status.st_ino] += 1
            inodes.setdefault((status.st_dev, status.st_ino), (path, status))
    for inode, (path, status) in inodes.items():
        if stat.S_ISDIR(status.st_mode) or status.st_nlink <= names[inode]:
            sizes[path] += status.st_blocks * 512
    return sizes


def refuse_active(ledger: Ledger) -> None:
    """Raise UserError while a job of the run may write there: it is queued or running, or it was just sent."""
    tokens.find_unrecorded(ledger)
    rows = ledger.submissions().values()
    jobs = list(dict.fromkeys(job.split("_")[0] for row in rows for job in all_jobs(row)))
    states = scheduler.query(jobs, min((row.get("first", row["submitted"]) for row in rows), default=0.0))
    active = [job for job, known in states.items() if any(row.state in scheduler.IN_QUEUE for row in known)]
    if active or tokens.unsettled(ledger):
        what = f"job {', '.join(active)} is queued or running" if active else "a submission has no end yet"
        raise UserError(
            f"{what}: nothing is removed from a run that works; wait for it, or end it (`proxygrm cancel`)",
            code="clean.active",
            jobs=active,
        )


def remove(items: Iterable[Removable]) -> None:
    """Each gets another name first: an interruption leaves nothing that looks complete. Raises UserError."""
    for one in items:
        try:
            doomed = beside(one.path) if not _SCRATCH.fullmatch(one.path.name) else one.path
            one.path.rename(doomed)
            if doomed.is_dir() and not doomed.is_symlink():
                shutil.rmtree(doomed)
            else:
                doomed.unlink()
        except OSError as error:
            raise UserError(
                f"cannot remove {one.path}: {error.strerror}; what is before it in the table is removed",
                code="clean.cannot-remove",
                path=str(one.path),
            ) from error
