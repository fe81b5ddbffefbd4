"""The Ray actor that keeps one replica on the node it was placed on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from proxygrm.serving.replicas.command import ReplicaSpec
from proxygrm.serving.replicas.serve import gpu_numbers
from proxygrm.serving.replicas.server import ReplicaServer, ReplicaStatus

log = logging.getLogger(__name__)


class ReplicaActor:
    """A plain class that `group` turns into an actor. The server is a child of the actor and dies with it."""

    def __init__(self, spec: ReplicaSpec, gpu_positions: tuple[int, ...], api_key: str) -> None:
        if spec.device != "cpu":
            spec = replace(spec, gpus=gpu_numbers(gpu_positions))
        if spec.images and not Path(spec.images).is_dir():  # vLLM would not start; clients send the bytes instead
            log.warning("%s: %s has no folder %s, images are sent as bytes", spec.name, spec.node, spec.images)
            spec = replace(spec, images="")
        self.server = ReplicaServer(spec, api_key)
        self.server.start()

    def status(self) -> ReplicaStatus:
        return self.server.status()

    def stop(self) -> None:
        self.server.stop()
