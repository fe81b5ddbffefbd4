"""The logs of a stage: one file a job, element and node; a requeued job appends, so a file holds several attempts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobs.engine.plan import log_folder
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.submissions import all_jobs
from jobs.engine.stage import Stage
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file
from slurm import private
from slurm.health.preflight.bad_nodes import job_name

STARTS = re.compile(r"submitit INFO \(.*\) - Starting with JobEnvironment\(")
ON_NODE = re.compile(r"attempt \d+ of job \S+, task (\d+) on node (\S+)")
"""What `worker.StageJob` says first. The host's own name may be another one."""
FIRST_TASK = re.compile(r"\S+: attempt \d+ of job \S+, task 0 on node")
"""Begins an attempt in a log that submitit did not write: that of a job sent by hand, which all tasks share."""


@dataclass(frozen=True)
class Segment:
    """What one attempt of one task wrote. attempt: counted from 1 over all jobs the stage has had."""

    path: Path
    attempt: int
    element: int
    rank: int
    first_line: int
    lines: tuple[str, ...]

    @property
    def node(self) -> str:
        said = (ON_NODE.search(line) for line in self.lines[:40])
        return next((found[2] for found in said if found and int(found[1]) == self.rank), "")


def files(stage: Stage, ledger: Ledger, job_id: str) -> dict[tuple[int, int], Path]:
    """(element, rank) -> log of one job; job_id may be that of an element ("12_3")."""
    job, _, own = job_id.partition("_")
    shape = re.compile(rf"{re.escape(job)}(?:_(\d+))?_(\d+)_log\.out")
    found = {}
    for path in log_folder(ledger.folder, stage).glob(f"{job}_*_log.out"):
        if name := shape.fullmatch(path.name):
            element = int(name[1] or 0)
            if not own or element == int(own):
                found[element, int(name[2])] = path
    return dict(sorted(found.items()))


def link_latest(run_dir: Path, stage: Stage, cell: int) -> None:
    """`STAGE/latest.log` (`latest.N.log` of an array's element) leads to what node 0 of this job is writing."""
    target = log_folder(run_dir, stage) / f"{job_name()}_0_log.out"
    if target.exists():
        link = run_dir / stage.name / ("latest.log" if stage.array == 1 else f"latest.{cell}.log")
        with whole_file(link) as scratch:
            scratch.symlink_to(os.path.relpath(target, link.parent))


def adopt(run_dir: Path, stage: Stage, job: str, log: str) -> None:
    """The log of a job (or array element) that was sent by hand is found where those of others stand."""
    private.make_jobs(run_dir, log_folder(run_dir, stage))
    with whole_file(log_folder(run_dir, stage) / f"{job}_0_log.out") as scratch:
        scratch.symlink_to(log)


def newest(stage: Stage, ledger: Ledger) -> list[Path]:
    """Logs of the stage's last job, one a node (or array element)."""
    job = ledger.submissions().get(stage.name, {}).get("job_id", "")
    return list(files(stage, ledger, job).values()) if job else []


def segments(stage: Stage, ledger: Ledger) -> list[Segment]:
    """Every attempt of every task of a stage, of all the jobs it has had since its configuration last changed."""
    row = ledger.submissions().get(stage.name)
    if row is None:
        return []
    counted: dict[tuple[int, int], int] = {}
    found = []
    for job in all_jobs(row):
        for (element, rank), path in files(stage, ledger, job).items():
            place = (0 if "_" in job else element, rank)
            for first_line, lines in _split(path.read_text(errors="replace").splitlines()):
                counted[place] = counted.get(place, 0) + 1
                found.append(Segment(path, counted[place], place[0], rank, first_line, tuple(lines)))
    return found


def raw(segment: Segment, last: int) -> bytes:
    """The segment's last lines, byte for byte."""
    text = segment.path.read_bytes().decode("utf-8", "surrogateescape")
    lines = text.splitlines(keepends=True)[segment.first_line - 1 :][: len(segment.lines)]
    return "".join(lines[-last:] if last else ()).encode("utf-8", "surrogateescape")


def _split(lines: list[str]) -> list[tuple[int, list[str]]]:
    """(number of its first line, lines) of each attempt in a file."""
    starts = next(
        (found for says in (STARTS, FIRST_TASK) if (found := [n for n, line in enumerate(lines) if says.match(line)])),
        [0] if lines else [],
    )
    starts[:1] = [0] if starts else []  # what srun says before Python starts belongs to the first
    return [
        (start + 1, lines[start:end])
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
        if end > start
    ]


def chosen(found: list[Segment], attempt: int | None, node: str | None) -> list[Segment]:
    """Of each task the given attempt (the last one by default), on one node (its rank or its name).

    Raises UserError that says what there is.
    """
    if not found:
        return []
    last: dict[tuple[int, int], Segment] = {}
    for segment in found:
        if attempt is None or segment.attempt == attempt:
            last[segment.element, segment.rank] = segment
    if not last:
        raise UserError(f"there is no attempt {attempt}; the last one is {max(s.attempt for s in found)}")
    on_node = [s for s in last.values() if node is None or node in (str(s.rank), s.node)]
    if not on_node:
        there = ", ".join(dict.fromkeys(f"{s.rank} ({s.node})" if s.node else str(s.rank) for s in last.values()))
        raise UserError(f"no node {node!r} in that attempt; there are {there}")
    return on_node


OTHERS = ("*.log", "*.out", "*.err")
NOT_LOGS = {"jobs", "checkpoints", "policy", "model", "rollouts", "swanlog", "swanlab", "verl_metrics"}
TAIL_BYTES = 200_000
MOST_FILES = 100


def other_logs(folder: Path, since: float = 0.0) -> list[Path]:
    """Logs of what the stage started (trainer, servers, Ray), written to since then, the newest first."""
    found: list[tuple[float, Path]] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in NOT_LOGS]
        for name in names:
            path = Path(root, name)
            if any(path.match(shape) for shape in OTHERS) and (written := path.stat().st_mtime) >= since:
                found.append((written, path))
    return [path for _, path in sorted(found, reverse=True)[:MOST_FILES]]


def sizes_file(folder: Path, cell: int) -> Path:
    """Where an attempt notes how long these logs are as it starts: what stands before is not its own."""
    return folder / f".logs_at_start.{cell}.json"


def sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in other_logs(folder)}


def tail(path: Path, most: int = TAIL_BYTES, start: int = 0) -> tuple[int, list[str]]:
    """(number of the first line, lines) of the end of a file of any size; nothing from before byte `start`, unless the
    file is shorter now (written anew)."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        own = start if start <= size else 0
        start = max(own, size - most)
        file.seek(0)
        before = sum(block.count(b"\n") for block in _blocks(file, start))
        file.seek(start)
        lines = file.read(most).decode(errors="replace").splitlines()
    # A cut through the middle of a line leaves half of it out; an attempt's own start is no such cut.
    return (before + 2, lines[1:]) if start > own else (before + 1, lines)


def _blocks(file, until: int) -> Iterable[bytes]:
    left = until
    while left > 0 and (block := file.read(min(left, 1 << 20))):
        left -= len(block)
        yield block
