"""The proxy's replica group inside an RL job: one Ray actor a replica, on the nodes (or GPUs) set apart for it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from proxygrm.core.checkpoints.check import is_hf_checkpoint
from proxygrm.core.errors import UserError
from proxygrm.serving.replicas.command import ReplicaSpec
from proxygrm.serving.replicas.placement import Place, ProxyNode, place_replicas
from proxygrm.serving.replicas.replica import ReplicaActor
from proxygrm.serving.replicas.serve import endpoints_of
from proxygrm.serving.replicas.server import ReplicaStatus, wait_until_healthy, why_failed
from proxygrm.serving.settings import ProxySettings

RESOURCE = "proxy_gpu"
"""Ray's name for the proxy's GPUs: verl takes everything that is called GPU."""
POLL_TIMEOUT_S = 10.0
"""For the answers of all actors together."""
WATCH_EVERY_S = 5.0


class Supervisor(Protocol):
    """What the group needs of `slurm.ray.cluster.RayHandle`."""

    def watch(self, reason: Callable[[], str | None]) -> None: ...


class ProxyGroup:
    """Started replicas; make one with `start`."""

    def __init__(self, actors: Sequence[Any], places: Sequence[Place], endpoints_file: Path) -> None:
        self._actors, self._places = list(actors), list(places)
        self._stopped = False
        self._looking = threading.Lock()
        self._looked_at = 0.0
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
        pictures: Path | None = None,
        said: Callable[[str], None] = lambda line: None,
    ) -> ProxyGroup:
        """Start all replicas and wait until they answer; the calling process is connected to Ray.

        Writes folder/endpoints.json (0600) and folder/proxy-N.log; `folder` is on the shared file system. From then
        on a replica past its restarts ends the job through `handle`. On CPUs a replica takes one proxy_gpu.
        pictures: shared folder whose pictures go to the replicas by path; others are uploaded.
        UserError: no checkpoint, too few proxy GPUs, a replica that fails or is late (named, with its log's words).
        """
        import ray

        is_hf_checkpoint(Path(model))
        settings = settings.fitted(Path(model), device)
        nodes = [node for node in plan if node.proxy_gpus]
        parallel = 1 if device == "cpu" else settings.tensor_parallel
        places = place_replicas(nodes, settings.replicas, parallel)
        folder.mkdir(parents=True, exist_ok=True)
        key = secrets.token_urlsafe(32)
        readable = str(pictures.resolve()) if pictures else ""
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
            statuses = wait_until_healthy(group.health, settings.start_timeout_s, said)
        except BaseException:
            group.stop()
            raise
        endpoints_of([status.url for status in statuses], key, settings, readable).write(group.endpoints_file)
        handle.watch(group.why_dead)
        return group

    def health(self) -> list[ReplicaStatus]:
        """State of each replica, asked of its actor. UserError names a replica whose actor or node is gone."""
        import ray

        asked = [actor.status.remote() for actor in self._actors]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=POLL_TIMEOUT_S)
        statuses = []
        for place, answer in zip(self._places, asked, strict=True):
            name = f"proxy-{place.replica}"
            try:
                statuses.append(ray.get(answer, timeout=POLL_TIMEOUT_S if answer in answered else 0))
            except ray.exceptions.GetTimeoutError:
                statuses.append(ReplicaStatus(name, place.node, "", "starting", 0, "its actor does not answer yet"))
            except ray.exceptions.RayError as error:
                why = str(error).strip().splitlines()[-1]
                raise UserError(f"proxy replica {name} on {place.node} is gone: {why}") from error
        return statuses

    def why_dead(self) -> str | None:
        """For the job's watcher: a reason to end the job, or None. Asks the actors every few seconds only, and
        never twice at a time: others may watch too, and an actor that does not answer must not hold them up."""
        if not self._looking.acquire(blocking=False):
            return self._reason
        try:
            if not self._stopped and time.monotonic() - self._looked_at > WATCH_EVERY_S:
                try:
                    self._reason = why_failed(self.health())
                except UserError as error:
                    self._reason = str(error)
                self._looked_at = time.monotonic()
            return None if self._stopped else self._reason
        finally:
            self._looking.release()

    def stop(self) -> None:
        """End all servers; the endpoints file goes with them. The actors go with Ray: killing them asks its head, which
        may be what has just died."""
        import ray

        self._stopped = True
        self.endpoints_file.unlink(missing_ok=True)
        ended = [actor.stop.remote() for actor in self._actors]
        ray.wait(ended, num_returns=len(ended), timeout=POLL_TIMEOUT_S)
