"""The frozen proxy as a service of an RL job."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.rewards.base import PROXY
from proxygrm.serving.replicas.command import ReplicaSpec
from proxygrm.serving.replicas.placement import place_replicas
from proxygrm.serving.replicas.serve import endpoints_of
from proxygrm.serving.replicas.server import replica_here
from proxygrm.serving.services.group import Replica, ReplicaGroup
from proxygrm.serving.services.service import Service, ServiceNode, Surroundings
from proxygrm.serving.settings import ProxySettings

CHECKPOINT = "checkpoint"
"""Label of what it needs."""


@dataclass(frozen=True, kw_only=True)
class Proxy(Service):
    """vLLM replicas of the judge, on nodes of its own; in a job of one node on its last GPUs."""

    name: str = PROXY
    settings: ProxySettings = field(default_factory=ProxySettings)

    @property
    def folder(self) -> str:
        return self.name

    @property
    def prompts(self) -> tuple[str, ...]:
        return ("proxy", "proxy_verdict") if self.settings.mode == "verdict" else ("proxy",)

    def shared_gpus(self, job_nodes: int) -> int:
        return self.settings.replicas * self.settings.tensor_parallel_size if job_nodes == 1 else 0

    def validate(self, nodes: Sequence[ServiceNode], device: str) -> None:
        place_replicas(nodes, self.settings.replicas, self._gpus_per_replica(device))

    def check_inputs(self, inputs: Mapping[str, Path], device: str) -> None:
        check_checkpoint(inputs[CHECKPOINT])
        self.settings.fitted(inputs[CHECKPOINT], device)

    def start(self, here: Surroundings) -> ProxyGroup:
        """On CPUs a replica takes one GPU, which is a name only. The folder with the training's images is served by
        path; other images are uploaded."""
        return ProxyGroup(self, here)

    def _gpus_per_replica(self, device: str) -> int:
        return 1 if device == "cpu" else self.settings.tensor_parallel_size


class ProxyGroup(ReplicaGroup):
    """Writes FOLDER/endpoints.json (0600) once the replicas are healthy, and FOLDER/proxy-N.log."""

    def __init__(self, proxy: Proxy, here: Surroundings) -> None:
        model, images = here.inputs[CHECKPOINT], here.images()
        self._settings = proxy.settings.fitted(model, here.device)
        self._key, self._images = secrets.token_urlsafe(32), str(images.resolve()) if images else ""
        gpus = proxy._gpus_per_replica(here.device)
        replicas = []
        for place in place_replicas(here.nodes, self._settings.replicas, gpus):
            spec = ReplicaSpec(
                name=f"{proxy.name}-{place.replica}",
                node=place.node,
                model=str(model),
                address=place.address,
                device=here.device,
                gpus=(),
                log_dir=here.folder,
                settings=self._settings,
                images=self._images,
            )
            arguments = (spec, place.gpus, self._key)
            replicas.append(Replica(spec.name, place.node, place.address, replica_here, arguments, gpus))
        here.folder.mkdir(parents=True, exist_ok=True)
        self.endpoints_file = here.folder / "endpoints.json"
        super().__init__(proxy.name, replicas, self._settings.start_timeout_s)

    def healthy(self, on_message: Callable[[str], None]) -> None:
        super().healthy(on_message)
        endpoints_of(self.urls, self._key, self._settings, self._images).write(self.endpoints_file)

    def stop(self) -> None:
        self.endpoints_file.unlink(missing_ok=True)
        super().stop()
