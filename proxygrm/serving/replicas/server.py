"""One `vllm serve` under supervision, on a port that is held for it and never given to another user."""

from __future__ import annotations

import http.client
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.job_secret import vllm_sockets
from proxygrm.serving.access.held_port import hold
from proxygrm.serving.access.proof import proves_key
from proxygrm.serving.replicas.command import ReplicaSpec, serve_command, serve_environment
from proxygrm.serving.services.gpus import gpu_numbers
from proxygrm.serving.services.server import HEALTH_TIMEOUT_S, SupervisedServer

log = logging.getLogger(__name__)


class ReplicaServer(SupervisedServer):
    """Its port is chosen once and kept over restarts, so its URL stays valid."""

    def __init__(
        self,
        spec: ReplicaSpec,
        api_key: str,
        command: Callable[[ReplicaSpec, int], list[str]] = serve_command,
        port: int = 0,
    ) -> None:
        """port: 0 takes a free one. UserError when the port or the address is not available."""
        super().__init__(spec.name, spec.node, spec.log, spec.settings.max_restarts)
        self.spec = spec
        self._key, self._words = api_key, command
        self._sockets: Mapping[str, str] = {}
        try:
            self._port_holder = hold(spec.address, port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"{spec.name} cannot listen on {spec.address} port {port}: {reason}; --port 0 takes a free one",
                code="proxy.port-unavailable",
                address=spec.address,
                port=port,
                reason=reason,
            ) from error
        self.port: int = self._port_holder.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://{self.spec.address}:{self.port}"

    def stop(self) -> None:
        super().stop()
        self._port_holder.close()

    @contextmanager
    def _while_supervised(self) -> Iterator[None]:
        with vllm_sockets() as self._sockets:
            yield

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        environment = serve_environment(self.spec, self._key, os.environ) | {**self._sockets}
        return self._words(self.spec, self.port), environment

    def _is_healthy(self) -> bool:
        """Is the server healthy, and is it ours that answers?"""
        connection = http.client.HTTPConnection(self.spec.address, self.port, timeout=HEALTH_TIMEOUT_S)
        try:
            if not proves_key(connection, self._key):
                self._detail = f"something answers at {self.url} that does not hold the key, so it is not our server"
                return False
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def replica_here(spec: ReplicaSpec, gpu_positions: tuple[int, ...], api_key: str) -> ReplicaServer:
    """A replica on the node of this process, which has these of the job's GPUs there."""
    if spec.device != "cpu":
        spec = replace(spec, gpus=gpu_numbers(gpu_positions))
    if spec.images and not Path(spec.images).is_dir():  # vLLM would not start; clients send the bytes instead
        log.warning("%s: %s has no folder %s, images are sent as bytes", spec.name, spec.node, spec.images)
        spec = replace(spec, images="")
    return ReplicaServer(spec, api_key)
