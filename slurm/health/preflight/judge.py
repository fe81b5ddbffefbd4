"""Which nodes are bad, by their measurements. Pure: numbers in, names and reasons out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from slurm.health.preflight.record import NodeHealth
from slurm.profile import Health


@dataclass(frozen=True)
class Bad:
    """One reason against one node; `check` names the kind."""

    node: str
    check: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """bad: nodes to exclude. group: a problem of all of them, so that no single node is the cause."""

    bad: tuple[Bad, ...] = ()
    group: str = ""
    notes: tuple[str, ...] = ()

    @property
    def nodes(self) -> list[str]:
        return list(dict.fromkeys(bad.node for bad in self.bad))

    @property
    def summary(self) -> str:
        """One line: every bad node with its reasons."""
        reasons = {node: [bad.reason for bad in self.bad if bad.node == node] for node in self.nodes}
        return "; ".join(f"node {node}: {', '.join(texts)}" for node, texts in reasons.items())


def ring_rounds(size: int) -> list[list[tuple[int, int]]]:
    """Neighbours in a ring of ranks, in rounds in which no rank occurs twice.

    Pairs instead of one all-reduce over all: that is as slow as its slowest member on every node, so it could not tell
    which node is slow. With two partners each, a bad node has two bad links, its neighbour one.
    """
    if size < 2:
        return []
    if size == 2:
        return [[(0, 1)]]
    edges = [(rank, rank + 1) for rank in range(size - 1)]
    closing = (0, size - 1)
    if size % 2:
        return [edges[0::2], edges[1::2], [closing]]
    return [edges[0::2], [*edges[1::2], closing]]


def judge(names: Sequence[str], records: Mapping[int, NodeHealth], gpus: int, health: Health) -> Verdict:
    """names: of the nodes by rank. records: those that arrived in time. gpus: how many the job has on each node.

    A check that fails on every one of several nodes does not count against any of them: then the configuration, the
    network or the check itself is wrong, and excluding nodes would not help.
    """
    silent = {
        rank: f"did not answer within {health.timeout_s:.0f} s" for rank in range(len(names)) if rank not in records
    }
    checks: dict[str, dict[int, str]] = {
        "answer": silent,
        "network": _unreachable(len(names), records),
        "measure": {r: h.problem for r, h in records.items() if h.problem},
        "site check": {
            r: f"the site's check failed: {h.command_output}"
            for r, h in records.items()
            if h.command_output is not None
        },
        "GPUs": {r: f"{h.gpus} of {gpus} GPUs" for r, h in records.items() if h.gpus < gpus and not h.problem},
        "GPU memory": _memory(records, health.gpu_memory_free),
        "ECC": {r: f"{h.ecc_errors} uncorrected errors of GPU memory" for r, h in records.items() if h.ecc_errors > 0},
        "shared memory": {
            r: f"{h.shm_free_gb:.1f} GB free in /dev/shm, {health.min_shm_gb:g} required (health.min_shm_gb)"
            for r, h in records.items()
            if h.shm_free_gb is not None and h.shm_free_gb < health.min_shm_gb
        },
        "matrix product": _slow({r: h.gemm_s for r, h in records.items() if h.gemm_s is not None}, health.slow_factor),
        "all-reduce": _bad_links(len(names), records, health.slow_factor),
        "clock": _skewed(records, health.max_clock_skew_s),
    }
    everywhere = [
        f"every node, for example {names[0]}: {reasons[0]} ({check})"
        for check, reasons in checks.items()
        if len(reasons) == len(names) > 1
    ]
    if everywhere:
        return Verdict(group="; ".join(everywhere), notes=_notes(records))
    bad = [
        Bad(names[rank], check, reason) for check, reasons in checks.items() for rank, reason in sorted(reasons.items())
    ]
    return Verdict(tuple(bad), notes=_notes(records))


def _unreachable(size: int, records: Mapping[int, NodeHealth]) -> dict[int, str]:
    """Ranks that could not connect to rank 0. When none could, rank 0 is cut off, or, of two nodes, either."""
    reasons = {rank: health.unreachable for rank, health in records.items() if health.unreachable}
    if reasons and len(reasons) == size - 1:
        last = reasons[max(reasons)]
        return reasons | {0: last} if size == 2 else {0: f"no other node reaches it: {last}"}
    return reasons


def _memory(records: Mapping[int, NodeHealth], share: float) -> dict[int, str]:
    reasons = {}
    for rank, health in records.items():
        used = [f"GPU {i} {1 - free:.0%}" for i, free in enumerate(health.gpu_free) if free < share]
        if used:
            reasons[rank] = f"GPU memory in use: {', '.join(used)}"
    return reasons


def _slow(seconds: Mapping[int, float], factor: float) -> dict[int, str]:
    """Compared with the lower median: of two nodes, with the faster one."""
    if not seconds:
        return {}
    typical = median_low(seconds.values())
    return {
        rank: f"a matrix product takes {value / typical:.1f} times the group's median"
        for rank, value in seconds.items()
        if value > factor * typical
    }


def _bad_links(size: int, records: Mapping[int, NodeHealth], factor: float) -> dict[int, str]:
    """Nodes of which all links are slow or failed. Both ends time a link; the slower time counts."""
    links: dict[tuple[int, int], float | None] = {}
    for a, b in (pair for pairs in ring_rounds(size) for pair in pairs):
        if a in records and b in records and str(b) in records[a].links_s and str(a) in records[b].links_s:
            first, second = records[a].links_s[str(b)], records[b].links_s[str(a)]
            links[a, b] = None if first is None or second is None else max(first, second)
    best = {}
    for rank in records:
        if times := [value for pair, value in links.items() if rank in pair]:
            best[rank] = min((value for value in times if value is not None), default=None)
    # The median of the nodes' better links, not of all links: of three nodes, one bad one spoils two of three.
    good = [value for value in best.values() if value is not None]
    typical = median_low(good) if good else 0.0
    return {
        rank: "no all-reduce with " + " or ".join(_failed(records[rank], records[p]) for p in _partners(rank, links))
        if value is None
        else f"all-reduce takes {value / typical:.1f} times the group's median"
        for rank, value in best.items()
        if value is None or value > factor * typical
    }


def _failed(health: NodeHealth, partner: NodeHealth) -> str:
    reason = health.links_why.get(str(partner.rank))
    return f"{partner.node} ({reason})" if reason else partner.node


def _partners(rank: int, links: Mapping[tuple[int, int], float | None]) -> list[int]:
    return [a if b == rank else b for a, b in links if rank in (a, b)]


def _skewed(records: Mapping[int, NodeHealth], allowed_s: float) -> dict[int, str]:
    """Offsets are relative to rank 0's clock; when that is wrong, all others agree on another value."""
    clocks = {rank: health.clock for rank, health in records.items() if health.clock}
    if not clocks:
        return {}
    typical = median_low(clock.seconds for clock in clocks.values())
    return {
        rank: f"its clock is {clock.seconds - typical:+.1f} s off"
        for rank, clock in clocks.items()
        if abs(clock.seconds - typical) - clock.error_s > allowed_s
    }


def _notes(records: Mapping[int, NodeHealth]) -> tuple[str, ...]:
    """Lines for the log about what does not make a node bad."""
    return tuple(
        f"node {health.node}: {'ended' if stale.ended else 'found'} process {stale.pid} ({stale.command}) of job "
        f"{stale.job}, which has ended"
        for health in records.values()
        for stale in health.stale
    )
