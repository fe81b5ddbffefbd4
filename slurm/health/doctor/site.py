"""Checks that the scheduler has what the profile names: one query, parsed into values, then pure comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxygrm.core.settings import nearest
from slurm.commands import NoAnswer, ask
from slurm.health.doctor.finding import Finding, fail, ok, warn
from slurm.profile import Profile


@dataclass(frozen=True)
class SiteNode:
    """One node in one partition, by sinfo."""

    name: str
    partition: str
    state: str
    cpus: int
    memory_mb: int
    features: tuple[str, ...]
    gpus: tuple[tuple[str, int], ...]
    """(type, number); the type is empty where the site has none."""

    @property
    def usable(self) -> bool:
        return not re.match(r"down|drain|fail|maint|unknown|reboot|power", self.state) and not self.state.endswith("*")


@dataclass(frozen=True)
class Partition:
    name: str
    default: bool
    up: bool
    max_minutes: float
    """inf: no limit."""
    max_nodes: float
    accounts: tuple[str, ...] = ()
    """Those allowed; empty: all."""
    qos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """The scheduler as this user sees it. None: unknown (no accounting)."""

    nodes: tuple[SiteNode, ...] = ()
    partitions: tuple[Partition, ...] = ()
    accounts: tuple[str, ...] | None = None
    """Accounts this user may charge."""
    qos: tuple[str, ...] | None = None
    reservations: tuple[tuple[str, str], ...] = ()
    """(name, state)"""
    problems: tuple[Finding, ...] = field(default=())


START_LATER = "jobs wait until it starts; to run now, leave out --reservation"


def query(user: str) -> Site:
    """Raises NoAnswer when the controller cannot be reached; accounting may be missing."""
    nodes = parse_nodes(ask("sinfo", "-h", "-a", "-N", "-o", "%N|%R|%T|%c|%m|%f|%G"))
    partitions = parse_partitions(ask("scontrol", "show", "partition", "-a", "-o"))
    reservations = parse_reservations(ask("scontrol", "show", "reservation", "-o"))
    accounts = qos = None
    problems = []
    try:
        rows = ask("sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", "format=account,qos").splitlines()
        accounts = tuple(dict.fromkeys(row.split("|")[0] for row in rows))
        qos = tuple(dict.fromkeys(q for row in rows for q in row.split("|")[1].split(",") if q))
    except NoAnswer as error:
        problems.append(warn("accounts", str(error), "account and qos cannot be checked here; sbatch does it"))
    return Site(nodes, partitions, accounts, qos, reservations, tuple(problems))


def parse_nodes(text: str) -> tuple[SiteNode, ...]:
    """Lines of `sinfo -N -o "%N|%R|%T|%c|%m|%f|%G"`; gres such as gpu:h100:8(S:0-1),gpu:1g.10gb:2,tmp:100."""
    nodes = []
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) != 7:
            continue
        name, partition, state, cpus, memory, features, gres = parts
        gpus = []
        for word in re.sub(r"\([^)]*\)", "", gres).split(","):
            if match := re.fullmatch(r"gpu(?::([^:]+))??(?::(\d+))?", word.strip()):
                gpus.append((match[1] or "", int(match[2] or 1)))
        known = tuple(f for f in features.split(",") if f and f != "(null)")
        nodes.append(SiteNode(name, partition, state, int(cpus), int(memory), known, tuple(gpus)))
    return tuple(nodes)


def parse_partitions(text: str) -> tuple[Partition, ...]:
    partitions = []
    for line in text.splitlines():
        row = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "PartitionName" not in row:
            continue
        max_nodes = row.get("MaxNodes", "UNLIMITED")
        partitions.append(
            Partition(
                row["PartitionName"],
                row.get("Default") == "YES",
                row.get("State") == "UP",
                minutes(row.get("MaxTime", "UNLIMITED")),
                float(max_nodes) if max_nodes.isdigit() else float("inf"),
                _allowed(row.get("AllowAccounts", "ALL")),
                _allowed(row.get("AllowQos", "ALL")),
            )
        )
    return tuple(partitions)


def _allowed(text: str) -> tuple[str, ...]:
    return () if text in ("ALL", "(null)", "N/A") else tuple(text.split(","))


def minutes(text: str) -> float:
    """SLURM's [DAYS-]HOURS:MINUTES:SECONDS (or MINUTES, or MINUTES:SECONDS) in minutes; inf for UNLIMITED."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not match:
        return float("inf")
    days, first, second, third = (int(part or 0) for part in match.groups())
    if match[1] or match[4]:
        return days * 1440 + first * 60 + second + third / 60
    return first + second / 60


def parse_reservations(text: str) -> tuple[tuple[str, str], ...]:
    rows = (dict(word.split("=", 1) for word in line.split() if "=" in word) for line in text.splitlines())
    return tuple((row["ReservationName"], row.get("State", "?")) for row in rows if "ReservationName" in row)


def compare(site: Site, profile: Profile) -> list[Finding]:
    """The profile compared with the site. Pure."""
    scheduler = profile.scheduler
    names = dict.fromkeys(name for name in (scheduler.partition, scheduler.cpu_partition) if name)
    findings = [f for name in names for f in _partition(name, site, profile)]
    if not scheduler.partition:
        defaults = [p.name for p in site.partitions if p.default]
        findings.append(
            ok("partition", f"the site's default, {defaults[0]}")
            if defaults
            else fail("partition", "none set, and the site has no default", _known("scheduler.partition", _names(site)))
        )
    findings += site.problems
    findings += _membership("account", scheduler.account, site.accounts, "accounts")
    findings += _membership("qos", scheduler.qos, site.qos, "QOS")
    if scheduler.reservation:
        states = dict(site.reservations)
        state = states.get(scheduler.reservation)
        if state == "ACTIVE":
            findings.append(ok("reservation", f"{scheduler.reservation} is active"))
        elif state:
            findings.append(
                warn(
                    "reservation",
                    f"{scheduler.reservation} is {state.lower()}",
                    START_LATER,
                )
            )
        else:
            findings.append(
                fail("reservation", f"there is no {scheduler.reservation!r}", _known("--reservation", states))
            )
    return findings + _nodes(site, profile)


def _names(site: Site) -> list[str]:
    return [p.name for p in site.partitions]


def _known(key: str, names: Iterable[str]) -> str:
    listed = ", ".join(dict.fromkeys(names)) or "none"
    return f"set {key}; there is: {listed}"


def _membership(check: str, name: str, known: tuple[str, ...] | None, plural: str) -> list[Finding]:
    if not name or known is None:
        return []
    if name in known:
        return [ok(check, name)]
    hint = f"did you mean {near}? " if (near := nearest(name, known)) else ""
    return [fail(check, f"{name!r} is not among your {plural}", hint + _known(f"scheduler.{check}", known))]


def _partition(name: str, site: Site, profile: Profile) -> list[Finding]:
    matches = [p for p in site.partitions if p.name == name]
    if not matches:
        hint = f"did you mean {near}? " if (near := nearest(name, _names(site))) else ""
        return [fail("partition", f"there is no {name!r}", hint + _known("scheduler.partition", _names(site)))]
    partition, scheduler = matches[0], profile.scheduler
    findings = [
        ok("partition", name)
        if partition.up
        else fail("partition", f"{name} is not up", "wait, or set another in scheduler.partition")
    ]
    if scheduler.account and partition.accounts and scheduler.account not in partition.accounts:
        findings.append(
            fail(
                "partition", f"{name} is not open to account {scheduler.account}", _known("account", partition.accounts)
            )
        )
    if scheduler.qos and partition.qos and scheduler.qos not in partition.qos:
        findings.append(fail("partition", f"{name} does not take QOS {scheduler.qos}", _known("qos", partition.qos)))
    for unit, key, value, limit in (
        ("nodes", "max_nodes", scheduler.max_nodes, partition.max_nodes),
        ("minutes", "max_walltime_min", scheduler.max_walltime_min, partition.max_minutes),
    ):
        if value and value > limit:
            findings.append(
                fail("limits", f"{name} allows {limit:g} {unit}, the profile {value}", f"scheduler.{key} = {limit:g}")
            )
    return findings


def _nodes(site: Site, profile: Profile) -> list[Finding]:
    """Whether the GPU partition has nodes as large as the profile's [node]."""
    node, scheduler = profile.node, profile.scheduler
    name = scheduler.partition or next((p.name for p in site.partitions if p.default), "")
    members = [n for n in site.nodes if n.partition == name]
    if not members:
        return []  # already reported: there is no such partition
    if scheduler.constraint:
        words = set(re.findall(r"[\w.-]+", scheduler.constraint))
        unknown = words - {feature for n in members for feature in n.features}
        if unknown:
            features = sorted({feature for n in members for feature in n.features})
            detail = f"no node of {name} has {', '.join(sorted(unknown))}"
            return [fail("constraint", detail, _known("scheduler.constraint", features))]
    fitting = []
    for n in members:
        gpus = max((count for kind, count in n.gpus if node.gpu_type in ("", kind)), default=0)
        if gpus >= node.gpus and n.cpus >= node.cpus and n.memory_mb >= node.memory_gb * 1024:
            fitting.append(n)
    sizes = sorted({f"{_gpus(n)}, {n.cpus} CPUs, {n.memory_mb // 1024} GB" for n in members})
    size = f"{node.gpu_type or 'any'}:{node.gpus}, {node.cpus} CPUs, {node.memory_gb} GB"
    if not fitting:
        return [fail("nodes", f"no node in {name} has {size}", f"correct [node]; {name} has: {' or '.join(sizes)}")]
    usable = [n for n in fitting if n.usable]
    if not usable:
        states = ", ".join(sorted({n.state for n in fitting}))
        return [
            fail("nodes", f"all {len(fitting)} of {name} that fit are {states}", "wait, or ask your administrators")
        ]
    detail = f"{len(usable)} of {len(members)} in {name} have {size} and can be used"
    if scheduler.max_nodes > len(fitting):
        remedy = f"scheduler.max_nodes is {scheduler.max_nodes}: larger jobs would wait forever"
        return [warn("nodes", detail, remedy)]
    return [ok("nodes", detail)]


def _gpus(node: SiteNode) -> str:
    return " + ".join(f"{kind or 'gpu'}:{count}" for kind, count in node.gpus) or "no GPU"
