"""Decides what to submit. Pure: the same chain and the same facts give the same plan, with or without a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jobs.engine.run_folder.reuse import Elsewhere
from jobs.engine.stage import Identity, Stage
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_code import one_line
from slurm.profile import Profile
from slurm.sbatch import Resources

Action = Literal["run", "skip", "wait", "reuse"]
UNKNOWN = Identity("", {})


@dataclass(frozen=True)
class Queued:
    """A job of a stage that is still queued or running."""

    job_id: str
    state: str
    """The scheduler's word for it."""
    fingerprint: str
    """That of the stage when the job was sent."""
    change: str = ""
    """What differs from that submission, in words; "" when nothing does."""


@dataclass(frozen=True)
class Facts:
    """What is known of one stage before planning (`jobs.engine.facts.gather`)."""

    unfinished: str | None
    """Why it has to run; None when it is proven done."""
    identity: Identity = UNKNOWN
    queued: Queued | None = None
    elsewhere: Elsewhere | None = None
    """Another run that has done it, and may be reused."""
    not_taken: str = ""
    """Why other runs that have done something like it are not reused."""
    reused: str = ""
    """Where what is done was reused from, in words."""


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
    made_of: Mapping[str, Any] | None = None
    """As of `Identity`."""
    elsewhere: Elsewhere | None = None
    """Of a stage to reuse: who has done it."""


@dataclass(frozen=True)
class Sending:
    """Options of one submission that are not kept with the run. They apply to the jobs that wait for no other job of
    the run: the others wait for those.

    hold: they start only after `scontrol release`. after: ids of other jobs that must end well first.
    """

    hold: bool = False
    after: tuple[str, ...] = ()


def plan(stages: list[Stage], facts: Mapping[str, Facts], redo: frozenset[str] = frozenset()) -> list[Planned]:
    """For each stage: run what is missing, skip what is proven, wait for what is already queued, reuse what another run
    has done."""
    planned: dict[str, Planned] = {}
    for stage in stages:
        fact, queued = facts[stage.name], facts[stage.name].queued
        fingerprint, made_of = fact.identity.fingerprint, fact.identity.made_of
        parents = [planned[p.name] for p in stage.upstream()]
        rerun = [p.stage.name for p in parents if p.action == "run"]
        waiting = [p.stage.name for p in parents if p.action == "wait"]
        after = tuple(rerun + waiting)
        if queued and queued.fingerprint == fingerprint:
            because = f"job {queued.job_id} is {queued.state.lower() or 'queued'}"
            planned[stage.name] = Planned(stage, "wait", because, fingerprint, after, queued.job_id, made_of)
            continue
        if queued:
            raise UserError(
                f"{stage.name} is {queued.state.lower()} as job {queued.job_id} with another configuration"
                f"{f' ({queued.change})' if queued.change else ''}; "
                "end it first (`proxygrm cancel`) or use another run (--run NAME)",
                code="submit.other-configuration-queued",
                stage=stage.name,
                job=queued.job_id,
                change=queued.change,
            )
        elsewhere = None if rerun or waiting or stage.name in redo else fact.elsewhere
        action: Action = "run"
        if fact.unfinished and elsewhere:
            action, because = "reuse", str(elsewhere)
        elif fact.unfinished:
            because = "; ".join(filter(None, [fact.unfinished, fact.not_taken]))
        elif stage.name in redo:
            because = "requested with --redo"
        elif rerun or waiting:
            because = f"{' and '.join(rerun + waiting)} will be rebuilt"
        else:
            action, because = "skip", fact.reused or "done"
        there = elsewhere if action == "reuse" else None
        planned[stage.name] = Planned(stage, action, because, fingerprint, after, made_of=made_of, elsewhere=there)
    return list(planned.values())


def in_batches(planned: list[Planned]) -> list[list[Planned]]:
    """The stages that have to run, as they are sent: stages of one batch together, every other stage alone.

    Elements whose upstream element is sent now are kept apart from those whose upstream is done: only the former can
    wait for it element by element. Elements that ask for other resources are kept apart too, because a job array has
    the same resources for all, and so are the stages that wait for them.
    """
    due = [line for line in planned if line.action == "run"]
    batch_of = {line.stage.name: line.stage.batch for line in due}
    groups: dict[tuple[str, bool, tuple[Resources, ...]], list[Planned]] = {}
    for line in due:
        waits = any(batch_of.get(name) for name in line.after)
        resources = (line.stage.on, *(parent.on for parent in line.stage.upstream() if parent.batch))
        groups.setdefault((line.stage.batch or line.stage.name, waits, resources), []).append(line)
    return list(groups.values())


def dependency(lines: list[Planned], job_ids: Mapping[str, str], after: tuple[str, ...] = ()) -> str:
    """SLURM's dependency of one submission; "" when it waits for nothing. after: as in `Sending`.

    An element of a batch waits for the corresponding element of the batch before it (aftercorr), so that one failed
    cell costs its own successor only. A stage that is not submitted yet is written as <its name>.
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
    """Whether a submission waits for no other job of the run."""
    return not any(line.after for line in lines)


def within_limits(stage: Stage, profile: Profile) -> str | None:
    """What the site, or the job itself on such nodes, would refuse; None when it fits."""
    on, node, scheduler = stage.on, profile.node, profile.scheduler
    requested = [
        ("nodes", on.nodes, scheduler.max_nodes, "scheduler.max_nodes"),
        ("minutes", on.timeout_min, scheduler.max_walltime_min, "scheduler.max_walltime_min"),
        ("GPUs per node", on.gpus_per_node, node.gpus, "node.gpus"),
        ("CPUs per node", on.cpus_per_task, node.cpus, "node.cpus"),
        ("GB per node", on.mem_gb, node.memory_gb, "node.memory_gb"),
    ]
    for what, number, limit, key in requested:
        if number > limit and not (limit == 0 and key.startswith("scheduler.")):
            return f"{stage.name} asks for {number} {what}, profile {profile.name} allows {limit} ({key})"
    if scheduler.signal_before_end_s >= on.timeout_min * 60:
        return (
            f"{stage.name} has {on.timeout_min} min, and is told to stop {scheduler.signal_before_end_s} s before "
            "they end (scheduler.signal_before_end_s): at once; give it more time or lower the lead"
        )
    return unfit(stage, profile)


def unfit(stage: Stage, profile: Profile) -> str | None:
    """Why the stage would fail on the nodes it asks for, by its own `validate`, in one line; None when it would not."""
    try:
        if stage.validate:
            stage.validate(stage, profile)
    except Exception as error:  # that of a user's own recipe may raise anything
        if not isinstance(error, UserError):
            return f"{stage.name}: its validate fails: {one_line(error)}"
        nodes = f"{stage.on.nodes} node{'s' * (stage.on.nodes > 1)} x {stage.on.gpus_per_node} GPU"
        return f"{stage.name} on {nodes}: {error}"
    return None


def gpu_hours(stages: Iterable[Stage], requeues: bool = False) -> float:
    """Upper bound of what these stages can use: every job runs to its time limit once, or (requeues) as often as it may
    be requeued at its time limit. Preemptions and failed nodes are not included; their attempts are shorter."""
    return sum(
        s.on.nodes * s.on.gpus_per_node * s.on.timeout_min / 60 * s.array * (1 + s.max_requeues * requeues)
        for s in stages
    )


def files(planned: list[Planned], run_dir: Path, records: Path, code: Path) -> list[tuple[str, str]]:
    """Everything a submit of this plan writes itself: (path, description). What the jobs write is not included.

    records: the folder of run.json. code: the folder of the code's copy.
    """
    due = in_batches(planned)
    if not due:
        return []
    written = [
        (f"{records}/run.json", "request, versions, fingerprints; code.diff beside it, if the code is changed"),
        (f"{code}/", "the code as it is now, which the jobs run"),
    ]
    for lines in due:
        jobs = log_folder(run_dir, lines[0].stage)
        for line in lines if len(lines) <= 3 else lines[:1]:
            more = f" (and {len(lines) - 1} like it)" if len(lines) > 3 else ""
            written.append((f"{run_dir / line.stage.name}/fingerprint", f"what it is made of{more}"))
        written.append((f"{jobs}/JOB_submission.sh", "the script below, as sent"))
        several = len(lines) > 1 or lines[0].stage.array > 1
        written.append((f"{jobs}/JOB{'_ELEMENT' * several}_submitted.pkl", "what the job runs, read by submitit"))
    written.append((f"{run_dir}/submissions.json", "job ids"))
    return written


def log_folder(run_dir: Path, stage: Stage) -> Path:
    return run_dir / (stage.batch or stage.name) / "jobs"
