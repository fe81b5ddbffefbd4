"""The contract of an RL job's auxiliary servers. A recipe describes one; the job starts it, waits until it is healthy,
watches it, and stops it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True)
class ServiceNode:
    """A node as one service sees it."""

    name: str
    address: str
    gpus: tuple[int, ...] = ()
    """Those of this service, by their position in the node's own list (not CUDA numbers)."""


@dataclass(frozen=True)
class Surroundings:
    """What a service is given when it starts in its job."""

    nodes: tuple[ServiceNode, ...]
    """Its nodes."""
    inputs: Mapping[str, Path]
    """Paths of its needs, by label."""
    folder: Path
    """Its own folder on the shared file system."""
    device: str
    """`cuda`, or `cpu` where GPUs are names only."""
    images: Callable[[], Path | None] = lambda: None
    """Finds the folder with all images that the job trains on; None where there is none."""
    one_node: bool = False
    """The job has no other node, so nothing outside it needs to reach the service."""


class Running(Protocol):
    """A started service. The process that starts it is connected to Ray."""

    @property
    def urls(self) -> Sequence[str]:
        """Base URLs (`http://HOST:PORT`) of its replicas; they stay valid over restarts. Known once it is healthy."""

    @property
    def key_file(self) -> Path | None:
        """A file of mode 0600 with the key its callers send; None where they need none of their own."""

    def healthy(self, on_message: Callable[[str], None]) -> None:
        """Return when all replicas answer. UserError names the one that failed or is late, with a line of its log."""

    def watch(self) -> str | None:
        """Why the job cannot continue, naming service and node; None while all is well. From other threads, too."""

    def stop(self) -> None:
        """End all that it started, and remove its key."""


@dataclass(frozen=True, kw_only=True)
class Service(ABC):
    """One auxiliary server of an RL job, on any number of nodes. What a subclass adds is part of the fingerprint."""

    name: str
    """Of its replicas (NAME-0, NAME-1 ...), logs and URLs; unique in the job."""
    nodes: int = 0
    """Nodes of the job that run it and do not train; 0: it shares the nodes of the trainers. With one node in all, that
    one is shared."""
    needs: Mapping[str, Any] = field(default_factory=dict)
    """What it needs, by label, as in a stage's `needs`: what another stage makes, a path, or a model's hub name."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UserError(
                f"service {self.name!r}: a name has small letters, digits, - and _, and begins with a letter",
                code="service.bad-name",
                name=self.name,
            )
        check_bounds(f"service {self.name}", self, from_zero=("nodes",))

    @property
    def folder(self) -> str:
        """Its own, inside that of the stage."""
        return f"services/{self.name}"

    @property
    def prompts(self) -> tuple[str, ...]:
        """Names of the prompts that it is sent: they are part of the stage's fingerprint."""
        return ()

    def shared_gpus(self, job_nodes: int) -> int:
        """GPUs it takes of each node that it shares with the trainers."""
        return 0

    def validate(self, nodes: Sequence[ServiceNode], device: str) -> None:
        """UserError, before anything is sent, when it does not fit these nodes."""
        return

    def check_program(self) -> None:
        """UserError when what it runs is not on this machine, which has what the job's nodes have."""
        return

    def check_inputs(self, inputs: Mapping[str, Path], device: str) -> None:
        """UserError, before anything is started in the job, when what it needs cannot be used."""
        return

    @abstractmethod
    def start(self, here: Surroundings) -> Running:
        """Start it on its nodes, without waiting."""
