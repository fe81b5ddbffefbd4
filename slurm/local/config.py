"""The settings of a private cluster, and its SLURM configuration as text. Pure: nothing is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"
PORTS_PER_BLOCK = 40
FIRST_BLOCK = 28000
BLOCKS = 15
MAX_NODES = 16
_FIRST_SLURMD = 8


@dataclass(frozen=True)
class ClusterSpec:
    """The settings of a private cluster. The demo runs on the defaults."""

    name: str = "local"
    nodes: tuple[tuple[str, int], ...] = (("h100", 2), ("a100", 2))
    """(GPU type, number of nodes); a node is called TYPE-NUMBER, counted from 1."""
    gpus_per_node: int = 8
    cpus_per_node: int = 64
    """SLURM hands out this many, whatever the machine has."""
    memory_mb_per_node: int = 500_000
    default_memory_mb_per_cpu: int = 1000
    kill_invalid_depend: bool = True
    """Cancel a job whose dependency can never be satisfied. Sites differ, so tests use both."""
    port: int | None = None
    """First of 40 TCP ports; None takes a free block."""
    slurmd_timeout_s: int = 20
    requeue_delay_s: int = 10
    """How long a requeued job waits; also the lifetime of a job credential, so at least a few seconds."""
    preempt_grace_s: int = 5
    """Time a preempted job in `scavenge` has, from the signal it requested (`--signal`) to its requeue. A job that uses
    it and requeues itself frees its nodes at once; for others SLURM checks every 30 s only. With 0 a job is requeued at
    once, without time to save."""
    kill_wait_s: int = 5

    def __post_init__(self) -> None:
        types = [kind for kind, _ in self.nodes]
        if len(set(types)) != len(types) or not all(kind.isalnum() for kind in types):
            raise UserError(
                f"GPU types of a local cluster must be distinct plain words, not {types}",
                code="cluster.gpu-types",
                types=types,
            )
        if not 1 <= self.node_count <= MAX_NODES or min(count for _, count in self.nodes) < 1:
            raise UserError(
                f"a local cluster has 1 to {MAX_NODES} nodes, not {self.node_count}",
                code="cluster.node-count",
                count=self.node_count,
            )
        if self.port is not None and not 1024 <= self.port <= 65535 - PORTS_PER_BLOCK:
            raise UserError(
                f"a block of {PORTS_PER_BLOCK} ports above 1023 cannot start at port {self.port}",
                code="cluster.port-range",
                port=self.port,
            )

    @property
    def node_count(self) -> int:
        return sum(count for _, count in self.nodes)

    @property
    def gpu_types(self) -> list[str]:
        return [kind for kind, _ in self.nodes]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ClusterSpec:
        return cls(**{**data, "nodes": tuple((kind, int(count)) for kind, count in data["nodes"])})


@dataclass(frozen=True)
class Node:
    name: str
    gpu_type: str
    address: str
    port: int


@dataclass(frozen=True)
class Ports:
    """One block of ports: controller, accounting, then one per node."""

    first: int

    @property
    def slurmctld(self) -> int:
        return self.first

    @property
    def slurmdbd(self) -> int:
        return self.first + 1

    def slurmd(self, index: int) -> int:
        return self.first + _FIRST_SLURMD + index


def nodes_of(spec: ClusterSpec, ports: Ports) -> list[Node]:
    """The virtual nodes. Addresses are 127.0.0.x and differ between blocks too, so that programs of two clusters on
    fixed ports of their nodes do not collide."""
    offset = 11 + MAX_NODES * ((ports.first // PORTS_PER_BLOCK) % BLOCKS)
    names = [(f"{kind}-{number}", kind) for kind, count in spec.nodes for number in range(1, count + 1)]
    return [
        Node(name, kind, f"127.0.0.{offset + index}", ports.slurmd(index)) for index, (name, kind) in enumerate(names)
    ]


def ports_used(spec: ClusterSpec, ports: Ports) -> list[int]:
    return [ports.slurmctld, ports.slurmdbd, *(node.port for node in nodes_of(spec, ports))]


def render(spec: ClusterSpec, ports: Ports, *, base: str, user: str, plugin_dir: str | None) -> dict[str, str]:
    """Configuration files by name. base: the folder's path for SLURM: short, without special characters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    nodes = nodes_of(spec, ports)

    def names_of(gpu_type: str) -> str:
        return ",".join(node.name for node in nodes if node.gpu_type == gpu_type)

    environment = Environment(  # noqa: S701 - configuration files, not HTML
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    values = {
        "spec": spec,
        "ports": ports,
        "nodes": nodes,
        "names_of": names_of,
        "base": base,
        "user": user,
        "plugin_dir": plugin_dir,
    }
    return {
        template.removesuffix(".j2"): environment.get_template(template).render(values)
        for template in ("slurm.conf.j2", "gres.conf.j2", "cgroup.conf.j2", "slurmdbd.conf.j2")
    }
