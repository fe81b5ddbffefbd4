"""The logs of a stage: one file per job, element and node. A requeued job appends, so a file holds several attempts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from jobs.engine.plan import log_folder
from jobs.engine.run_folder.attempts import Attempt
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.submissions import all_jobs
from jobs.engine.stage import Stage
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file
from slurm import private

STARTS = re.compile(r"submitit INFO \(.*\) - Starting with JobEnvironment\(")
ON_NODE = re.compile(r"attempt \d+ of job \S+, task (\d+) on node (\S+)")
"""In what `worker.StageJob` prints first. SLURM's name of the node may differ from the host's own."""
FIRST_TASK = re.compile(r"\S+: attempt \d+ of job \S+, task 0 on node")
"""Starts an attempt in a log that submitit did not write: that of a job sent by hand, which all tasks share."""


@dataclass(frozen=True)
class Segment:
    """The lines that one attempt of one task wrote. attempt: counted from 1 over all jobs of the stage."""

    path: Path
    attempt: int
    element: int
    rank: int
    first_line: int
    lines: tuple[str, ...]

    @property
    def node(self) -> str:
        matches = (ON_NODE.search(line) for line in self.lines[:40])
        return next((match[2] for match in matches if match and int(match[1]) == self.rank), "")


def first_line(stage: str, rank: int, node: str) -> str:
    """What a job prints first."""
    attempt = Attempt.current()
    return f"{stage}: attempt {attempt.number} of job {attempt.job}, task {rank} on node {node}"


def files(stage: Stage, ledger: Ledger, job_id: str) -> dict[tuple[int, int], Path]:
    """(element, rank) -> log of one job; job_id may be that of an element ("12_3")."""
    job, _, own = job_id.partition("_")
    shape = re.compile(rf"{re.escape(job)}(?:_(\d+))?_(\d+)_log\.out")
    logs = {}
    for path in log_folder(ledger.folder, stage).glob(f"{job}_*_log.out"):
        if name := shape.fullmatch(path.name):
            element = int(name[1] or 0)
            if not own or element == int(own):
                logs[element, int(name[2])] = path
    return dict(sorted(logs.items()))


def link_latest(run_dir: Path, stage: Stage, cell: int) -> None:
    """`STAGE/latest.log` (`latest.N.log` for an array element) links to the log of this job's node 0."""
    target = log_folder(run_dir, stage) / f"{Attempt.current().job}_0_log.out"
    if target.exists():
        link = run_dir / stage.name / ("latest.log" if stage.array == 1 else f"latest.{cell}.log")
        with whole_file(link) as scratch:
            scratch.symlink_to(os.path.relpath(target, link.parent))


def adopt(run_dir: Path, stage: Stage, job: str, log: str) -> None:
    """Link the log of a job (or array element) that was sent by hand to where the logs of the others are."""
    private.make_jobs(run_dir, log_folder(run_dir, stage))
    with whole_file(log_folder(run_dir, stage) / f"{job}_0_log.out") as scratch:
        scratch.symlink_to(log)


def newest(stage: Stage, ledger: Ledger) -> list[Path]:
    """Logs of the stage's last job, one per node (or array element)."""
    job = ledger.submissions().get(stage.name, {}).get("job_id", "")
    return list(files(stage, ledger, job).values()) if job else []


def segments(stage: Stage, ledger: Ledger) -> list[Segment]:
    """Every attempt of every task of a stage, in all jobs since its configuration last changed."""
    row = ledger.submissions().get(stage.name)
    if row is None:
        return []
    counted: dict[tuple[int, int], int] = {}
    attempts = []
    for job in all_jobs(row):
        for (element, rank), path in files(stage, ledger, job).items():
            place = (0 if "_" in job else element, rank)
            for first_line, lines in _split(path.read_text(errors="replace").splitlines()):
                counted[place] = counted.get(place, 0) + 1
                attempts.append(Segment(path, counted[place], place[0], rank, first_line, tuple(lines)))
    return attempts


def raw(segment: Segment, last: int) -> bytes:
    """The segment's last lines, byte for byte."""
    text = segment.path.read_bytes().decode("utf-8", "surrogateescape")
    lines = text.splitlines(keepends=True)[segment.first_line - 1 :][: len(segment.lines)]
    return "".join(lines[-last:] if last else ()).encode("utf-8", "surrogateescape")


def _split(lines: list[str]) -> list[tuple[int, list[str]]]:
    """(number of its first line, lines) of each attempt in a file."""
    starts: list[int] = [0] if lines else []
    for mark in (FIRST_TASK, STARTS):  # STARTS counts where both are there
        starts = [number for number, line in enumerate(lines) if mark.match(line)] or starts
    starts[:1] = [0] if starts else []  # what srun prints before Python starts belongs to the first
    return [
        (start + 1, lines[start:end])
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
        if end > start
    ]


def select(segments: list[Segment], attempt: int | None, node: str | None) -> list[Segment]:
    """For each task the given attempt (the last one by default), on one node (its rank or its name).

    Raises UserError that names the attempts or nodes there are.
    """
    if not segments:
        return []
    by_task: dict[tuple[int, int], Segment] = {}
    for segment in segments:
        if attempt is None or segment.attempt == attempt:
            by_task[segment.element, segment.rank] = segment
    if not by_task:
        last = max(s.attempt for s in segments)
        raise UserError(
            f"there is no attempt {attempt}; the last one is {last}", code="logs.no-attempt", attempt=attempt, last=last
        )
    on_node = [s for s in by_task.values() if node is None or node in (str(s.rank), s.node)]
    if not on_node:
        known = [*dict.fromkeys(f"{s.rank} ({s.node})" if s.node else str(s.rank) for s in by_task.values())]
        raise UserError(
            f"no node {node!r} in that attempt; there are {', '.join(known)}",
            code="logs.no-node",
            node=node,
            known=known,
        )
    return on_node


OTHERS = ("*.log", "*.out", "*.err")
NOT_LOGS = {"jobs", "checkpoints", "policy", "model", "rollouts", "swanlog", "swanlab", "verl_metrics"}
MAX_FILES = 100


def other_logs(folder: Path, since: float = 0.0) -> list[Path]:
    """Logs of the stage's child processes (trainer, servers, Ray) that were written to since then, the newest first."""
    logs: list[tuple[float, Path]] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in NOT_LOGS]
        for name in names:
            path = Path(root, name)
            if any(path.match(shape) for shape in OTHERS) and (written := path.stat().st_mtime) >= since:
                logs.append((written, path))
    return [path for _, path in sorted(logs, reverse=True)[:MAX_FILES]]


def sizes_file(folder: Path, cell: int) -> Path:
    """Where an attempt notes the sizes of these logs as it starts: what they hold before is not its own."""
    return folder / f".logs_at_start.{cell}.json"


def sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in other_logs(folder)}
