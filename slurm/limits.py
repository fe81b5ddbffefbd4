"""What a partition or the site forbids, by the live scheduler, so that a plan refuses it before the queue does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from slurm.commands import NoAnswer, ask
from slurm.health.doctor.site import Partition, SiteNode, parse_nodes, parse_partitions
from slurm.profile import Profile
from slurm.sbatch import Job, partition_of


def forbidden(stage: Job, profile: Profile, partition: Partition, nodes: Iterable[SiteNode]) -> str | None:
    """Why this partition would never start the stage, in one line; None when it would. nodes: those of it."""
    on, scheduler, requests = stage.on, profile.scheduler, f"{stage.name} requests"
    where = f"partition {partition.name}"
    if not partition.up:
        return f"{where} of {stage.name} is not up; choose another with --partition"
    if partition.accounts and scheduler.account and scheduler.account not in partition.accounts:
        return f"{where} is not open to account {scheduler.account}; choose another with --account or --partition"
    if partition.qos and scheduler.qos and scheduler.qos not in partition.qos:
        return f"{where} is not open to QOS {scheduler.qos}; choose another with --qos or --partition"
    if partition.max_nodes < on.nodes:
        return f"{requests} {on.nodes} nodes, {where} allows {partition.max_nodes:g} per job (MaxNodes)"
    if partition.max_minutes < on.timeout_min:
        return f"{requests} {on.timeout_min} min, {where} allows {partition.max_minutes:g} (MaxTime)"
    fitting = list(nodes)
    if not fitting:
        return None  # sinfo lists none
    kind = profile.node.gpu_type if on.gpus_per_node else ""
    types = dict.fromkeys(name for node in fitting for name, _ in node.gpus if name)
    if kind and kind not in types:
        return f"{requests} GPUs of type {kind}, {where} has {', '.join(types) or 'none with a type'} (node.gpu_type)"
    demands: list[tuple[str, int, Callable[[SiteNode], int]]] = [
        (f"{kind} GPUs per node".strip(), on.gpus_per_node, lambda node: gpus_of(node, kind)),
        ("CPUs per node", on.cpus_per_task, lambda node: node.cpus),
        ("GB per node", on.mem_gb, lambda node: node.memory_mb // 1024),
    ]
    for unit, number, amount in demands:
        large_enough = [node for node in fitting if amount(node) >= number]
        if not large_enough:
            return f"{requests} {number} {unit}, {where} has at most {max(map(amount, fitting))}"
        fitting = large_enough
    if len(fitting) < on.nodes:
        return f"{requests} {on.nodes} nodes, {where} has {len(fitting)} that are large enough"
    return None


def arrays_too_large(batches: Iterable[Sequence[Job]]) -> list[str]:
    """One line for each batch (jobs sent together as one job array) with more elements than SLURM accepts."""
    try:
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    except NoAnswer:
        return []
    if not match:
        return []
    return [text for jobs in batches if (text := too_large(jobs, int(match[1])))]


def too_large(jobs: Sequence[Job], max_array_size: int) -> str | None:
    """Elements are counted from 0, and their numbers are below max_array_size."""
    stage, number = jobs[0], sum(job.array for job in jobs)
    if number == 1 or number <= max_array_size:
        return None
    name = stage.batch or stage.name
    cells, shards = "a part of the cells at a time: --only 'PATTERN'", f"fewer shards: --set {name}.shards=N"
    remedy = cells if stage.batch else shards
    return f"{name} is an array of {number} jobs, SLURM here accepts {max_array_size} (MaxArraySize); {remedy}"


def gpus_of(node: SiteNode, kind: str) -> int:
    """Most GPUs of one type (of any, when kind is empty)."""
    return max((number for name, number in node.gpus if kind in ("", name)), default=0)


def problems(stages: Iterable[Job], profile: Profile) -> list[str]:
    """Everything the live scheduler would refuse, or leave in the queue forever; one line each. [] where it does not
    answer: sbatch decides then."""
    try:
        partitions = parse_partitions(ask("scontrol", "show", "partition", "-a", "-o"))
        nodes = parse_nodes(ask("sinfo", "-h", "-a", "-N", "-o", "%N|%R|%T|%c|%m|%f|%G"))
    except NoAnswer:
        return []
    known = {partition.name: partition for partition in partitions}
    default = next((partition.name for partition in partitions if partition.default), "")
    texts: list[str] = []
    for stage in stages:
        name = partition_of(stage, profile) or default
        if name in known:
            members = [node for node in nodes if node.partition == name]
            texts.append(forbidden(stage, profile, known[name], members) or "")
        elif name:
            texts.append(f"there is no partition {name} here; there is {', '.join(known)} (scheduler.partition)")
    return [text for text in dict.fromkeys(texts) if text]
