"""Everything a submit would fail on, before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobs.engine.plan import Planned, in_batches, within_limits
from jobs.engine.stage import Given, Stage
from proxygrm.core.checkpoints.code import LoadableCheckpoint
from proxygrm.core.errors import UserError
from slurm import limits
from slurm.environment import path_problem
from slurm.profile import Profile
from slurm.scheduler import IN_QUEUE, query

_MISSING = "submit.missing-input"


@dataclass(frozen=True)
class Problem:
    """One reason not to send, in one line, with its error code."""

    text: str
    code: str


def find_problems(planned: list[Planned], profile: Profile, folder: Path, ask_scheduler: bool) -> list[Problem]:
    """folder: of the run. ask_scheduler: whether it can be reached."""
    due = [line.stage for line in planned if line.action == "run"]
    cells = {(stage.batch or stage.name, stage.on): stage for stage in due}.values()  # cells ask for the same
    over: dict[str, str] = {}  # of many cells with the same problem, the first
    for stage in due:
        if text := within_limits(stage, profile):
            over.setdefault(text.replace(stage.name, stage.batch), text)
    problems = [Problem(text, "submit.does-not-fit") for text in over.values()]
    if ask_scheduler:
        batches = in_batches(planned)
        refused = limits.problems(cells, profile)
        refused += limits.arrays_too_large([line.stage for line in lines] for lines in batches)
        problems += [Problem(text, "slurm.would-refuse") for text in refused]
    problems += missing_inputs(due)
    problems += runs_inside_inputs(due, folder)
    if text := path_problem(folder):
        problems.insert(0, Problem(text, "run.bad-path"))
    return problems


def refuse(problems: list[Problem], hint: str = "") -> None:
    """Raise the first problem, if any; a command shows the others."""
    if problems:
        first, more = problems[0], f" ({len(problems) - 1} more above)" if len(problems) > 1 else ""
        raise UserError(f"{first.text}{more}{hint}", code=first.code, problems=[problem.text for problem in problems])


def missing_inputs(stages: list[Stage]) -> list[Problem]:
    """One for each file, data set or checkpoint that a chain needs and that does not exist or cannot be used. What
    is there, and not just empty or torn, has the code of what is wrong with it."""
    problems: dict[str, Problem] = {}
    for stage in stages:
        for label, need in stage.needs.items():
            if isinstance(need, Given) and need.path not in problems:
                try:
                    need.check(need.resolve())
                except Exception as error:
                    text = f"{stage.name} needs {label} at {need.path}: {error}{_hub_hint(need)}"
                    code = error.code if isinstance(error, UserError) and need.resolve().exists() else ""
                    problems[need.path] = Problem(text, _MISSING if code.startswith("file.") else code or _MISSING)
    return list(problems.values())


def runs_inside_inputs(stages: list[Stage], folder: Path) -> list[Problem]:
    """One for each input that holds the run folder: every stage that reads it would be another one as the run writes,
    and never done."""
    return [
        Problem(
            f"{stage.name} needs {label} at {need.path}, and the run folder {folder} is in it: whatever the run writes "
            f"would change its own input; give a --run outside, or a folder of the data alone",
            "submit.run-inside-input",
        )
        for stage in stages
        for label, need in stage.needs.items()
        if isinstance(need, Given) and need.counts(folder)
    ]


def _hub_hint(need: Given) -> str:
    model = isinstance(need.check, LoadableCheckpoint) and need.path.count("/") == 1 and need.path[0].isalnum()
    if not model or need.resolve().exists():
        return ""
    return f" (a hub name? `hf download {need.path}` puts it where jobs find it)"


def other_jobs(job_ids: Iterable[str]) -> None:
    """Refuse ids for --after that mislead SLURM: `afterok` on an id that it does not know starts at once, on one that
    failed never."""
    job_ids = list(job_ids)
    for job in job_ids:
        if not re.fullmatch(r"\d+(_\d+)?", job):
            raise UserError(
                f"--after {job}: that is not a job id (12345, or 12345_7 for an element of an array)",
                code="submit.bad-job-id",
                job=job,
            )
    known = query(job_ids)
    for job in job_ids:
        if job not in known:
            raise UserError(
                f"--after {job}: SLURM knows no such job, and would take it for one that ended well",
                code="submit.unknown-job",
                job=job,
            )
        if failed := [row.state for row in known[job] if row.state not in IN_QUEUE | {"COMPLETED"}]:
            raise UserError(
                f"--after {job}: that job has ended as {failed[0]}, so the chain would never start",
                code="submit.failed-job",
                job=job,
                state=failed[0],
            )
