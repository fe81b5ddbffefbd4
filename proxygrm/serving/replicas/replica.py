"""The Ray actor that keeps one replica on the node it was placed on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from proxygrm.serving.replicas.command import ReplicaSpec
from proxygrm.serving.replicas.serve import gpu_numbers
from proxygrm.serving.replicas.server import ReplicaServer, ReplicaStatus


class ReplicaActor:
    """Plain class; `group` makes it an actor. The server is on the actor's leash and dies with it."""

    def __init__(self, spec: ReplicaSpec, gpu_positions: tuple[int, ...], api_key: str) -> None:
        if spec.device != "cpu":
            spec = replace(spec, gpus=gpu_numbers(gpu_positions))
        if spec.pictures and not Path(spec.pictures).is_dir():  # vLLM would not start; clients send the bytes instead
            print(f"{spec.name}: {spec.node} has no folder {spec.pictures}, pictures come as bytes", flush=True)
            spec = replace(spec, pictures="")
        self.server = ReplicaServer(spec, api_key)
        self.server.start()

    def status(self) -> ReplicaStatus:
        return self.server.status()

    def stop(self) -> None:
        self.server.stop()
