"""What a partition or the site forbids, asked of the live scheduler, so that a plan refuses before the queue does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from slurm.commands import NoAnswer, ask
from slurm.health.doctor.site import Partition, SiteNode, parse_nodes, parse_partitions
from slurm.profile import Profile
from slurm.sbatch import Job, partition_of


def forbidden(stage: Job, profile: Profile, partition: Partition, nodes: Iterable[SiteNode]) -> str | None:
    """Why this partition would never start the stage, in one line; None when it would. nodes: those of it."""
    on, scheduler, who = stage.on, profile.scheduler, f"{stage.name} asks for"
    where = f"partition {partition.name}"
    if not partition.up:
        return f"{where}, where {stage.name} goes, is not up; name another with --partition"
    if partition.accounts and scheduler.account and scheduler.account not in partition.accounts:
        return f"{where} is not open to account {scheduler.account}; name another with --account or --partition"
    if partition.qos and scheduler.qos and scheduler.qos not in partition.qos:
        return f"{where} is not open to QOS {scheduler.qos}; name another with --qos or --partition"
    if partition.max_nodes < on.nodes:
        return f"{who} {on.nodes} nodes, {where} allows {partition.max_nodes:g} to a job (MaxNodes)"
    if partition.max_minutes < on.walltime_min:
        return f"{who} {on.walltime_min} min, {where} allows {partition.max_minutes:g} (MaxTime)"
    fitting = list(nodes)
    if not fitting:
        return None  # sinfo does not tell
    kind = profile.node.gpu_type if on.gpus_per_node else ""
    types = dict.fromkeys(name for one in fitting for name, _ in one.gpus if name)
    if kind and kind not in types:
        return f"{who} GPUs of type {kind}, {where} has {', '.join(types) or 'none with a type'} (node.gpu_type)"
    has: list[tuple[str, int, Callable[[SiteNode], int]]] = [
        (f"{kind} GPUs a node".strip(), on.gpus_per_node, lambda one: gpus_of(one, kind)),
        ("CPUs a node", on.cpus_per_node, lambda one: one.cpus),
        ("GB a node", on.memory_gb, lambda one: one.memory_mb // 1024),
    ]
    for what, wanted, of in has:
        left = [one for one in fitting if of(one) >= wanted]
        if not left:
            return f"{who} {wanted} {what}, {where} has at most {max(of(one) for one in fitting)}"
        fitting = left
    if len(fitting) < on.nodes:
        return f"{who} {on.nodes} nodes, {where} has {len(fitting)} that are large enough"
    return None


def arrays_too_large(batches: Iterable[Sequence[Job]]) -> list[str]:
    """Of what would be sent together, as one job array, what has more elements than SLURM takes."""
    try:
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    except NoAnswer:
        return []
    return [text for jobs in batches if found and (text := too_large(jobs, int(found[1])))]


def too_large(jobs: Sequence[Job], most: int) -> str | None:
    """most: MaxArraySize; elements are counted from 0, and none may have that number."""
    stage, number = jobs[0], sum(job.array for job in jobs)
    if number == 1 or number <= most:
        return None
    less = "a part of the cells at a time: --only 'PATTERN'" if stage.batch else "fewer shards: --set shards=N"
    return f"{stage.batch or stage.name} is an array of {number} jobs, SLURM here takes {most} (MaxArraySize); {less}"


def gpus_of(node: SiteNode, kind: str) -> int:
    """Most GPUs of one type (of any, when kind is empty)."""
    return max((number for name, number in node.gpus if kind in ("", name)), default=0)


def problems(stages: Iterable[Job], profile: Profile) -> list[str]:
    """Everything the live scheduler would refuse, or leave in the queue for ever; one line each. What it does not
    answer is not held against the plan: sbatch has the last word."""
    try:
        partitions = parse_partitions(ask("scontrol", "show", "partition", "-a", "-o"))
        nodes = parse_nodes(ask("sinfo", "-h", "-a", "-N", "-o", "%N|%R|%T|%c|%m|%f|%G"))
    except NoAnswer:
        return []
    known = {partition.name: partition for partition in partitions}
    default = next((partition.name for partition in partitions if partition.default), "")
    found: list[str] = []
    for stage in stages:
        name = partition_of(stage, profile) or default
        if name in known:
            members = [node for node in nodes if node.partition == name]
            found.append(forbidden(stage, profile, known[name], members) or "")
        elif name:
            found.append(f"there is no partition {name} here; there is {', '.join(known)} (scheduler.partition)")
    return [text for text in dict.fromkeys(found) if text]
