"""`proxygrm cost`: GPU-hours and CPU-hours that the stages of a run requested and used, from SLURM's accounting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.table import Table

from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.submissions import all_jobs
from jobs.engine.stage import Stage
from slurm import scheduler
from slurm.commands import NoAnswer
from slurm.scheduler import Attempt


@dataclass(frozen=True)
class Cost:
    """Hours of one stage, over all its jobs. asked: allocation x time limit, once for each job element, as submitted.
    used: allocation x elapsed time of every attempt, lost ones included. lost: the part of used whose attempts neither
    ended well nor still run."""

    stage: str
    jobs: int = 0
    attempts: int = 0
    asked_gpu_h: float = 0.0
    used_gpu_h: float = 0.0
    lost_gpu_h: float = 0.0
    asked_cpu_h: float = 0.0
    used_cpu_h: float = 0.0
    lost_cpu_h: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


KEPT = {"COMPLETED", "RUNNING", "PENDING", "SUSPENDED", "COMPLETING"}


def of_attempts(stage: str, attempts: Iterable[Attempt]) -> Cost:
    """The sum over a stage's attempts."""
    attempts = list(attempts)
    # Accounting fills in a requeued job's request later: of its attempts the one with the largest request counts.
    asked_once = {attempt.job: attempt for attempt in sorted(attempts, key=_asked_cpu_min)}.values()
    lost = [attempt for attempt in attempts if attempt.state not in KEPT]
    return Cost(
        stage=stage,
        jobs=len({attempt.job.split("_")[0] for attempt in attempts}),
        attempts=sum(attempt.start > 0 and attempt.allocated.nodes > 0 for attempt in attempts),
        asked_gpu_h=sum(attempt.limit_min / 60 * attempt.requested.gpus for attempt in asked_once),
        used_gpu_h=sum(attempt.elapsed_s / 3600 * attempt.allocated.gpus for attempt in attempts),
        lost_gpu_h=sum(attempt.elapsed_s / 3600 * attempt.allocated.gpus for attempt in lost),
        asked_cpu_h=sum(attempt.limit_min / 60 * attempt.requested.cpus for attempt in asked_once),
        used_cpu_h=sum(attempt.elapsed_s / 3600 * attempt.allocated.cpus for attempt in attempts),
        lost_cpu_h=sum(attempt.elapsed_s / 3600 * attempt.allocated.cpus for attempt in lost),
    )


def _asked_cpu_min(attempt: Attempt) -> int:
    return attempt.limit_min * attempt.requested.cpus


def of_records(stages: Sequence[Stage], ledger: Ledger) -> list[Cost]:
    """The same from the DONE records, for sites without accounting: the attempt that finished each element. What was
    reused from another run counts there."""
    costs: dict[str, list[Cost]] = {}
    for stage in stages:
        records = [record for cell in range(stage.array) if (record := ledger.done(stage, cell))]
        for record in records if not any(record.reused_from for record in records) else []:
            on, hours = stage.on, record.wall_s / 3600
            limit_h, cpus, gpus = on.timeout_min / 60, on.nodes * on.cpus_per_task, on.nodes * on.gpus_per_node
            costs.setdefault(stage.batch or stage.name, []).append(
                Cost(
                    stage=stage.batch or stage.name,
                    jobs=1,
                    attempts=record.attempts,
                    asked_gpu_h=limit_h * gpus,
                    used_gpu_h=hours * gpus,
                    asked_cpu_h=limit_h * cpus,
                    used_cpu_h=hours * cpus,
                )
            )
    return [replace(total(parts), stage=name) for name, parts in costs.items()]


def table(costs: Sequence[Cost], chain: Cost, title: str) -> Table:
    """Fits 80 columns."""
    rendered = Table(title=title, title_justify="left")
    rendered.add_column("stage", overflow="fold")
    for head in ("jobs", "attempts", "GPU-h asked/used/lost", "CPU-h asked/used/lost"):
        rendered.add_column(head, justify="right")
    for cost in [*costs, chain]:
        gpu = (cost.asked_gpu_h, cost.used_gpu_h, cost.lost_gpu_h)
        cpu = (cost.asked_cpu_h, cost.used_cpu_h, cost.lost_cpu_h)
        hours = (" / ".join(f"{value:.2f}" for value in kind) for kind in (gpu, cpu))
        rendered.add_row(cost.stage, str(cost.jobs), str(cost.attempts), *hours)
        if costs and cost is costs[-1]:
            rendered.add_section()
    return rendered


def total(costs: Sequence[Cost]) -> Cost:
    sums: dict[str, Any] = {
        key: sum(getattr(cost, key) for cost in costs) for key in Cost("").to_json() if key != "stage"
    }
    return Cost("chain", **sums)


def of_run(stages: Sequence[Stage], ledger: Ledger) -> list[Cost]:
    """One per submitted stage (or batch of stages), in the chain's order; accounting is asked once."""
    with suppress(NoAnswer):  # then accounting may not answer either
        tokens.find_unrecorded(ledger)
    submissions = ledger.submissions()
    jobs: dict[str, list[str]] = {}
    for stage in stages:
        if row := submissions.get(stage.name):
            jobs.setdefault(stage.batch or stage.name, []).extend(all_jobs(row))
    since = min((row.get("first", row["submitted"]) for row in submissions.values()), default=0.0)
    owner = {job: name for name, ids in jobs.items() for job in ids}
    attempts: dict[str, list[Attempt]] = {name: [] for name in jobs}
    for attempt in scheduler.attempts(owner, since):
        name = owner.get(attempt.job) or owner[attempt.job.split("_")[0]]
        attempts[name].append(attempt)
    return [of_attempts(name, own) for name, own in attempts.items()]
