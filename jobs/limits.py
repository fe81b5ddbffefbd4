"""What a partition forbids, asked of the live scheduler, so that a plan refuses before the queue does."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from jobs.plan import partition_of
from jobs.stage import Stage
from slurm.profile import Profile


@dataclass(frozen=True)
class NodeFacts:
    """What one node has. gpus: number by type; "" where the site gives no type. memory_mb: as SLURM hands it out."""

    name: str
    gpus: tuple[tuple[str, int], ...]
    cpus: int
    memory_mb: int

    def gpus_of(self, kind: str) -> int:
        """Most GPUs of one type (of any, when kind is empty)."""
        return max((number for name, number in self.gpus if not kind or name == kind), default=0)


@dataclass(frozen=True)
class Partition:
    """max_nodes, max_walltime_min: of one job; 0 is no limit. accounts, qos: who may use it; empty is everybody."""

    name: str
    state: str
    max_nodes: int
    max_walltime_min: int
    accounts: frozenset[str]
    qos: frozenset[str]
    nodes: tuple[NodeFacts, ...]


def read_partition(line: str, nodes: str) -> Partition:
    """line: of `scontrol show partition -o`. nodes: of `sinfo -h -N -o "%N|%G|%c|%m"`."""
    found = dict(field.split("=", 1) for field in line.split() if "=" in field)
    return Partition(
        name=found["PartitionName"],
        state=found.get("State", "UP"),
        max_nodes=_number(found.get("MaxNodes", "UNLIMITED")),
        max_walltime_min=minutes(found.get("MaxTime", "UNLIMITED")),
        accounts=_names(found.get("AllowAccounts", "ALL")),
        qos=_names(found.get("AllowQos", "ALL")),
        nodes=tuple(_node(row) for row in dict.fromkeys(nodes.splitlines()) if row.count("|") == 3),
    )


def minutes(text: str) -> int:
    """SLURM's times (MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS) in whole minutes; 0 for UNLIMITED."""
    days, dash, clock = text.rpartition("-")
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        return 0
    parts = [int(part) for part in clock.split(":")]
    if dash:
        hours, mins = [*parts, 0][:2]
        return int(days) * 1440 + hours * 60 + mins
    return parts[0] * 60 + parts[1] if len(parts) == 3 else parts[0]


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _names(text: str) -> frozenset[str]:
    return frozenset() if text in ("ALL", "(null)", "") else frozenset(text.split(","))


def _node(row: str) -> NodeFacts:
    name, gres, cpus, memory = row.split("|")
    gpus = re.findall(r"gpu(?::([^:,()]*[^:,()\d][^:,()]*))?:(\d+)", gres)
    return NodeFacts(
        name, tuple((kind, int(count)) for kind, count in gpus), _number(cpus.rstrip("+")), _number(memory)
    )


def forbidden(stage: Stage, profile: Profile, partition: Partition) -> str | None:
    """Why this partition would never start the stage, in one line; None when it would."""
    on, node, who = stage.on, profile.node, f"{stage.name} asks for"
    where = f"partition {partition.name}"
    if partition.state in ("DOWN", "INACTIVE", "DRAIN"):
        return f"{where}, where {stage.name} goes, is {partition.state}; name another with --partition"
    if partition.accounts and profile.scheduler.account and profile.scheduler.account not in partition.accounts:
        return f"{where} is not open to account {profile.scheduler.account}; name another with --account or --partition"
    if partition.qos and profile.scheduler.qos and profile.scheduler.qos not in partition.qos:
        return f"{where} is not open to QOS {profile.scheduler.qos}; name another with --qos or --partition"
    if 0 < partition.max_nodes < on.nodes:
        return f"{who} {on.nodes} nodes, {where} allows {partition.max_nodes} to a job (MaxNodes)"
    if 0 < partition.max_walltime_min < on.walltime_min:
        return f"{who} {on.walltime_min} min, {where} allows {partition.max_walltime_min} (MaxTime)"
    fitting = list(partition.nodes)
    kind = node.gpu_type if on.gpus_per_node else ""
    types = dict.fromkeys(name for one in fitting for name, _ in one.gpus if name)
    if kind and kind not in types:
        return f"{who} GPUs of type {kind}, {where} has {', '.join(types) or 'none with a type'} (node.gpu_type)"
    for what, wanted, most in (
        (f"{kind} GPUs a node".strip(), on.gpus_per_node, lambda one: one.gpus_of(kind)),
        ("CPUs a node", on.cpus_per_node, lambda one: one.cpus),
        ("GB a node", on.memory_gb, lambda one: one.memory_mb // 1024),
    ):
        left = [one for one in fitting if most(one) >= wanted]
        if fitting and not left:
            return f"{who} {wanted} {what}, {where} has at most {max(most(one) for one in fitting)}"
        fitting = left
    if partition.nodes and len(fitting) < on.nodes:
        return f"{who} {on.nodes} nodes, {where} has {len(fitting)} that are large enough"
    return None


@lru_cache(maxsize=8)
def ask(name: str) -> Partition | None:
    """The partition of that name, or the site's default for ""; None when the scheduler knows none such."""
    shown = _output(["scontrol", "show", "partition", "-o", *([name] if name else [])])
    lines = [line for line in shown.splitlines() if name or " Default=YES " in line]
    if not lines:
        return None
    found = lines[0].split()[0].partition("=")[2]
    return read_partition(lines[0], _output(["sinfo", "-h", "-N", "-p", found, "-o", "%N|%G|%c|%m"]))


def _output(command: list[str]) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def problems(stages: Iterable[Stage], profile: Profile) -> list[str]:
    """Everything the live scheduler would refuse, or leave in the queue for ever; one line each."""
    found: dict[str, None] = {}
    seen: set[object] = set()
    for stage in stages:
        name = partition_of(stage, profile)
        asked = (stage.batch or stage.name, stage.on, name)
        if asked in seen:  # cells of a batch ask for the same
            continue
        seen.add(asked)
        partition = ask(name)
        if partition is None:
            if name:
                found[
                    f"there is no partition {name} here (sinfo lists them); set scheduler.partition in the profile"
                ] = None
        elif problem := forbidden(stage, profile, partition):
            found[problem] = None
    return list(found)
