"""The proxy's replica group inside an RL job: one Ray actor per replica, on the nodes (or GPUs) reserved for it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.core.errors import UserError
from proxygrm.serving.replicas.command import ReplicaSpec
from proxygrm.serving.replicas.placement import Place, ProxyNode, place_replicas
from proxygrm.serving.replicas.replica import ReplicaActor
from proxygrm.serving.replicas.serve import endpoints_of
from proxygrm.serving.replicas.server import ReplicaStatus, failure_of, wait_until_healthy
from proxygrm.serving.settings import ProxySettings

RESOURCE = "proxy_gpu"
"""Ray's name for the proxy's GPUs: verl takes every resource that is called GPU."""
POLL_TIMEOUT_S = 10.0
"""For the answers of all actors together."""
CHECK_EVERY_S = 5.0


class Supervisor(Protocol):
    """What the group uses of `slurm.ray.handle.RayHandle`."""

    def watch(self, reason: Callable[[], str | None]) -> None: ...


class ProxyGroup:
    """Running replicas; create it with `start`."""

    def __init__(self, actors: Sequence[Any], places: Sequence[Place], endpoints_file: Path) -> None:
        self._actors, self._places = list(actors), list(places)
        self._stopped = False
        self._checking = threading.Lock()
        self._checked_at = 0.0
        self._reason: str | None = None
        self.endpoints_file = endpoints_file

    @classmethod
    def start(
        cls,
        handle: Supervisor,
        plan: Sequence[ProxyNode],
        model: Path | str,
        settings: ProxySettings,
        folder: Path,
        *,
        device: str = "cuda",
        images: Path | None = None,
        on_message: Callable[[str], None] = lambda line: None,
    ) -> ProxyGroup:
        """Start all replicas and wait until they answer; the calling process is connected to Ray.

        Writes folder/endpoints.json (0600) and folder/proxy-N.log; `folder` is on the shared file system. From then
        on a replica that has used up its restarts ends the job through `handle`. On CPUs a replica takes one proxy_gpu.
        images: shared folder whose images are sent to the replicas by path; others are uploaded.
        UserError: no checkpoint, too few proxy GPUs, a replica that fails or is late (named, with a line of its log).
        """
        import ray

        check_checkpoint(Path(model))
        settings = settings.fitted(Path(model), device)
        nodes = [node for node in plan if node.proxy_gpus]
        parallel = 1 if device == "cpu" else settings.tensor_parallel_size
        places = place_replicas(nodes, settings.replicas, parallel)
        folder.mkdir(parents=True, exist_ok=True)
        key = secrets.token_urlsafe(32)
        readable = str(images.resolve()) if images else ""
        actors = []
        for place in places:
            name = f"proxy-{place.replica}"
            spec = ReplicaSpec(name, place.node, str(model), place.address, device, (), folder, settings, readable)
            actor = ray.remote(ReplicaActor).options(
                num_cpus=0,
                num_gpus=0,
                resources={RESOURCE: parallel, f"node:{place.address}": 0.001},
                max_concurrency=2,  # status answers while stop waits
            )
            actors.append(actor.remote(spec, place.gpus, key))
        group = cls(actors, places, folder / "endpoints.json")
        try:
            statuses = wait_until_healthy(group.health, settings.start_timeout_s, on_message)
        except BaseException:
            group.stop()
            raise
        endpoints_of([status.url for status in statuses], key, settings, readable).write(group.endpoints_file)
        handle.watch(group.why_dead)
        return group

    def health(self) -> list[ReplicaStatus]:
        """State of each replica, from its actor. UserError names a replica whose actor or node is lost."""
        import ray

        requests = [actor.status.remote() for actor in self._actors]
        ready, _ = ray.wait(requests, num_returns=len(requests), timeout=POLL_TIMEOUT_S)
        statuses = []
        for place, request in zip(self._places, requests, strict=True):
            name = f"proxy-{place.replica}"
            try:
                statuses.append(ray.get(request, timeout=POLL_TIMEOUT_S if request in ready else 0))
            except ray.exceptions.GetTimeoutError:
                statuses.append(ReplicaStatus(name, place.node, "", "starting", 0, "its actor does not answer yet"))
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                raise UserError(
                    f"proxy replica {name} on {place.node} is lost: {reason}",
                    code="proxy.replica-lost",
                    replica=name,
                    node=place.node,
                    reason=reason,
                ) from error
        return statuses

    def why_dead(self) -> str | None:
        """For the job's watcher: a reason to end the job, or None. Polls the actors every few seconds only, and never
        twice at a time: other threads may call it too, and must not wait for an actor that does not answer."""
        if not self._checking.acquire(blocking=False):
            return self._reason
        try:
            if not self._stopped and time.monotonic() - self._checked_at > CHECK_EVERY_S:
                try:
                    self._reason = failure_of(self.health())
                except UserError as error:
                    self._reason = str(error)
                self._checked_at = time.monotonic()
            return None if self._stopped else self._reason
        finally:
            self._checking.release()

    def stop(self) -> None:
        """Stop all servers and remove the endpoints file. The actors end with Ray: killing them needs its head, which
        may be what has just died."""
        import ray

        self._stopped = True
        self.endpoints_file.unlink(missing_ok=True)
        stops = [actor.stop.remote() for actor in self._actors]
        ray.wait(stops, num_returns=len(stops), timeout=POLL_TIMEOUT_S)
