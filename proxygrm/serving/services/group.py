"""The replicas of a service inside an RL job: one Ray actor for each, on its node; its server dies with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.serving.services.server import ReplicaStatus, SupervisedServer, failure_of, wait_until_healthy

POLL_TIMEOUT_S = 10.0
"""For the answers of all actors together."""
CHECK_EVERY_S = 5.0


@dataclass(frozen=True)
class Replica:
    """What one actor is started with."""

    name: str
    node: str
    address: str
    server: Callable[..., SupervisedServer]
    """Called on the node, with the arguments."""
    arguments: tuple[Any, ...]
    gpus: int = 0
    """How many of Ray's SERVICE_gpu it takes."""


class ServerActor:
    """A plain class that `ReplicaGroup` turns into an actor."""

    def __init__(self, server: Callable[..., SupervisedServer], arguments: tuple[Any, ...]) -> None:
        self.server = server(*arguments)
        self.server.start()

    def status(self) -> ReplicaStatus:
        return self.server.status()

    def stop(self) -> None:
        self.server.stop()


class ReplicaGroup:
    """The replicas of one service, started. As `proxygrm.serving.services.service.Running`."""

    def __init__(
        self, service: str, replicas: Sequence[Replica], start_timeout_s: float, key_file: Path | None = None
    ) -> None:
        """The calling process is connected to Ray. key_file: is removed at the end."""
        import ray

        self.service, self.key_file = service, key_file
        self.urls: tuple[str, ...] = ()
        self._replicas, self._start_timeout_s = list(replicas), start_timeout_s
        self._stopped = False
        self._checking = threading.Lock()
        self._checked_at = 0.0
        self._reason: str | None = None
        self._actors = []
        for replica in replicas:
            gpus = {f"{service}_gpu": replica.gpus} if replica.gpus else {}
            actor = ray.remote(ServerActor).options(
                num_cpus=0,
                num_gpus=0,
                resources={**gpus, f"node:{replica.address}": 0.001},
                max_concurrency=2,  # status answers while stop waits
            )
            self._actors.append(actor.remote(replica.server, replica.arguments))

    def healthy(self, on_message: Callable[[str], None]) -> None:
        statuses = wait_until_healthy(self.statuses, self._start_timeout_s, on_message)
        self.urls = tuple(status.url for status in statuses)

    def statuses(self) -> list[ReplicaStatus]:
        """State of each replica, from its actor. UserError names a replica whose actor or node is lost."""
        import ray

        requests = [actor.status.remote() for actor in self._actors]
        ready, _ = ray.wait(requests, num_returns=len(requests), timeout=POLL_TIMEOUT_S)
        statuses = []
        for replica, request in zip(self._replicas, requests, strict=True):
            try:
                statuses.append(ray.get(request, timeout=POLL_TIMEOUT_S if request in ready else 0))
            except ray.exceptions.GetTimeoutError:
                late = "its actor does not answer yet"
                statuses.append(ReplicaStatus(replica.name, replica.node, "", "starting", 0, late))
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                raise UserError(
                    f"{self.service} replica {replica.name} on {replica.node} is lost: {reason}",
                    code="service.replica-lost",
                    service=self.service,
                    replica=replica.name,
                    node=replica.node,
                    reason=reason,
                ) from error
        return statuses

    def watch(self) -> str | None:
        """Polls the actors every few seconds only, and never twice at a time: other threads may call it too, and must
        not wait for an actor that does not answer."""
        if not self._checking.acquire(blocking=False):
            return self._reason
        try:
            if not self._stopped and time.monotonic() - self._checked_at > CHECK_EVERY_S:
                try:
                    self._reason = failure_of(self.statuses())
                except UserError as error:
                    self._reason = str(error)
                self._checked_at = time.monotonic()
            return None if self._stopped else self._reason
        finally:
            self._checking.release()

    def stop(self) -> None:
        """Stop all servers. The actors end with Ray: killing them needs its head, which may be what has just died."""
        import ray

        self._stopped = True
        if self.key_file is not None:
            self.key_file.unlink(missing_ok=True)
        stops = [actor.stop.remote() for actor in self._actors]
        ray.wait(stops, num_returns=len(stops), timeout=POLL_TIMEOUT_S)
