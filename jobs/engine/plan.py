"""Decides what to submit. Pure: the same chain and the same facts give the same plan, with or without a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jobs.engine.stage import Stage, fingerprints
from proxygrm.core.errors import UserError
from slurm.profile import Profile
from slurm.sbatch import Resources

Action = Literal["run", "skip", "wait"]


@dataclass(frozen=True)
class Facts:
    """What is known of one stage before planning.

    unfinished: why it has to run; None when it is proven done.
    active_job: job id of a submission that is still queued or running, with the fingerprint it was sent with.
    active_state: the scheduler's word for it.
    """

    unfinished: str | None
    active_job: str | None = None
    active_state: str = ""
    active_fingerprint: str = ""
    active_change: str = ""
    """What differs from what that submission was sent with, in words."""


@dataclass(frozen=True)
class Planned:
    """One line of the plan."""

    stage: Stage
    action: Action
    because: str
    fingerprint: str
    after: tuple[str, ...] = ()
    """Names of stages of this plan whose jobs this one waits for."""
    job_id: str | None = None


@dataclass(frozen=True)
class Sending:
    """What is asked of one submission and not kept with the run. It concerns the jobs that wait for none of the run's
    own: the others wait for those.

    hold: they start only after `scontrol release`. after: ids of other jobs that must end well before.
    """

    hold: bool = False
    after: tuple[str, ...] = ()


def plan(stages: list[Stage], facts: Mapping[str, Facts], redo: frozenset[str] = frozenset()) -> list[Planned]:
    """For each stage: run what is missing, skip what is proven, wait for what is already queued."""
    planned: dict[str, Planned] = {}
    known = fingerprints(stages)
    for stage in stages:
        fact, fingerprint = facts[stage.name], known[stage.name]
        parents = [planned[p.name] for p in stage.upstream()]
        rerun = [p.stage.name for p in parents if p.action == "run"]
        waiting = [p.stage.name for p in parents if p.action == "wait"]
        after = tuple(rerun + waiting)
        if fact.active_job and fact.active_fingerprint == fingerprint:
            because = f"job {fact.active_job} is {fact.active_state.lower() or 'queued'}"
            planned[stage.name] = Planned(stage, "wait", because, fingerprint, after, fact.active_job)
            continue
        if fact.active_job:
            raise UserError(
                f"{stage.name} is {fact.active_state.lower()} as job {fact.active_job} with another configuration"
                f"{f' ({fact.active_change})' if fact.active_change else ''}; "
                "end it first (`proxygrm cancel`) or use another run (--run NAME)"
            )
        if fact.unfinished:
            action: Action = "run"
            because = fact.unfinished
        elif stage.name in redo:
            action, because = "run", "asked for with --redo"
        elif rerun or waiting:
            action, because = "run", f"{' and '.join(rerun + waiting)} will be rebuilt"
        else:
            action, because = "skip", "done"
        planned[stage.name] = Planned(stage, action, because, fingerprint, after)
    return list(planned.values())


def in_batches(planned: list[Planned]) -> list[list[Planned]]:
    """What has to run, as it is sent: stages of one batch together, each other one alone.

    Elements whose upstream element is sent now are kept apart from those whose upstream is done: only the first can
    wait for it element by element. So are elements that ask for other resources, because a job array has the same for
    all, and what waits for them.
    """
    due = [line for line in planned if line.action == "run"]
    batch_of = {line.stage.name: line.stage.batch for line in due}
    groups: dict[tuple[str, bool, tuple[Resources, ...]], list[Planned]] = {}
    for line in due:
        waits = any(batch_of.get(name) for name in line.after)
        asked = (line.stage.on, *(parent.on for parent in line.stage.upstream() if parent.batch))
        groups.setdefault((line.stage.batch or line.stage.name, waits, asked), []).append(line)
    return list(groups.values())


def dependency(lines: list[Planned], job_ids: Mapping[str, str], after: tuple[str, ...] = ()) -> str:
    """SLURM's dependency of one submission; "" when nothing is waited for. after: as in `Sending`.

    An element of a batch waits for the corresponding element of the batch before it (aftercorr), so that one failed
    cell costs its own successor and nobody else's. What is not submitted yet stands there as <its name>.
    """
    batch_of = {parent.name: parent.batch for line in lines for parent in line.stage.upstream()}
    others: dict[str, None] = dict.fromkeys(after if waits_for_none(lines) else ())
    elements: list[str] = []
    for line in lines:
        for name in line.after:
            if batch_of[name]:
                elements.append(job_ids.get(name, f"<{batch_of[name]}>_{len(elements)}"))
            else:
                others[job_ids.get(name, f"<{name}>")] = None
    array = elements[0].removesuffix("_0") if elements else ""
    corresponding = len(lines) > 1 and elements == [f"{array}_{number}" for number in range(len(lines))]
    ok = [*others, *([] if corresponding else dict.fromkeys(elements))]
    parts = ["afterok:" + ":".join(ok)] if ok else []
    return ",".join([*parts, f"aftercorr:{array}"] if corresponding else parts)


def waits_for_none(lines: list[Planned]) -> bool:
    """True of a submission that waits for no other job of the run."""
    return not any(line.after for line in lines)


def within_limits(stage: Stage, profile: Profile) -> str | None:
    """What the site would refuse, or the job itself on such nodes, said before the queue says it."""
    on, node, scheduler = stage.on, profile.node, profile.scheduler
    asked = [
        ("nodes", on.nodes, scheduler.max_nodes, "scheduler.max_nodes"),
        ("minutes", on.walltime_min, scheduler.max_walltime_min, "scheduler.max_walltime_min"),
        ("GPUs a node", on.gpus_per_node, node.gpus, "node.gpus"),
        ("CPUs a node", on.cpus_per_node, node.cpus, "node.cpus"),
        ("GB a node", on.memory_gb, node.memory_gb, "node.memory_gb"),
    ]
    for what, number, limit, key in asked:
        if number > limit and not (limit == 0 and key.startswith("scheduler.")):
            return f"{stage.name} asks for {number} {what}, profile {profile.name} allows {limit} ({key})"
    if scheduler.signal_before_end_s >= on.walltime_min * 60:
        return (
            f"{stage.name} has {on.walltime_min} min, and is told to stop {scheduler.signal_before_end_s} s before "
            "they end (scheduler.signal_before_end_s): at once; give it more time or lower the lead"
        )
    return unfit(stage, profile)


def unfit(stage: Stage, profile: Profile) -> str | None:
    """Why the stage itself says it would fail on the nodes it asks for, in one line; None when nothing speaks against
    it."""
    try:
        if stage.validate:
            stage.validate(stage, profile)
    except UserError as error:
        nodes = f"{stage.on.nodes} node{'s' * (stage.on.nodes > 1)} x {stage.on.gpus_per_node} GPU"
        return f"{stage.name} on {nodes}: {error}"
    return None


def gpu_hours(stages: Iterable[Stage], requeues: bool = False) -> float:
    """Upper bound of what these can use: every job runs to its time limit, once, or (requeues) as often as it may be
    requeued for running out of time. Preemptions and failed nodes come on top; their attempts are shorter."""
    return sum(
        s.on.nodes * s.on.gpus_per_node * s.on.walltime_min / 60 * s.array * (1 + s.max_requeues * requeues)
        for s in stages
    )


def files(planned: list[Planned], run_dir: Path, records: Path, code: Path) -> list[tuple[str, str]]:
    """Everything a submit of this plan writes itself: (path, what it is). What the jobs write is not among it.

    records: the folder that keeps what was asked for. code: the folder of the code's copy.
    """
    due = in_batches(planned)
    if not due:
        return []
    found = [
        (f"{records}/run.json", "what was asked, versions, fingerprints; code.diff beside it, if the code is changed"),
        (f"{code}/", "the code as it is now, which the jobs run"),
    ]
    for lines in due:
        jobs = log_folder(run_dir, lines[0].stage)
        for line in lines if len(lines) <= 3 else lines[:1]:
            more = f" (and {len(lines) - 1} like it)" if len(lines) > 3 else ""
            found.append((f"{run_dir / line.stage.name}/fingerprint", f"what it is made of{more}"))
        found.append((f"{jobs}/JOB_submission.sh", "the script below, as sent"))
        several = len(lines) > 1 or lines[0].stage.array > 1
        found.append((f"{jobs}/JOB{'_ELEMENT' * several}_submitted.pkl", "what the job runs, read by submitit"))
    found.append((f"{run_dir}/submissions.json", "job ids"))
    return found


def with_nodes(stage: Stage, nodes: int) -> Stage:
    on: Resources = replace(stage.on, nodes=nodes)
    return replace(stage, on=on)


def log_folder(run_dir: Path, stage: Stage) -> Path:
    return run_dir / (stage.batch or stage.name) / "jobs"
