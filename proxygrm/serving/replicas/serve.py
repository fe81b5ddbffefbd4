"""The proxy's replicas on this machine alone, without Ray: for evaluation, tests and `proxygrm proxy serve`."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.serving.endpoints import SERVED_NAME, Endpoints
from proxygrm.serving.replicas.command import VLLM, Program, ReplicaSpec
from proxygrm.serving.replicas.placement import place_replicas
from proxygrm.serving.replicas.server import ReplicaServer
from proxygrm.serving.services.gpus import gpu_numbers
from proxygrm.serving.services.server import ReplicaStatus, raise_if_failed, wait_until_healthy
from proxygrm.serving.services.service import ServiceNode
from proxygrm.serving.settings import ProxySettings


@dataclass(frozen=True)
class Serving:
    """What `serve` yields: the path of the endpoints file, and the replicas."""

    endpoints_file: Path
    servers: Sequence[ReplicaServer]

    def health(self) -> list[ReplicaStatus]:
        return [server.status() for server in self.servers]

    def check(self) -> None:
        """UserError once a replica has used up its restarts."""
        raise_if_failed(self.health())


@contextlib.contextmanager
def serve(
    model: Path | str,
    settings: ProxySettings,
    folder: Path,
    *,
    name: str = SERVED_NAME,
    program: Program = VLLM,
    first_gpu: int = 0,
    device: str = "cuda",
    address: str = "127.0.0.1",
    port: int = 0,
    images: Path | None = None,
    on_message: Callable[[str], None] = lambda line: None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Serving]:
    """Start the replicas, wait until all answer, yield; stop them at the end, whatever happens.

    Writes folder/endpoints.json (0600, for `ProxyClient`; removed with the replicas) and folder/NAME-N.log.
    name: of the replicas. first_gpu: of this machine's, by its position; the others follow.
    address: bound and published; callers need the key. port: of the first replica, the others follow; 0: free ones.
    images: a folder whose images requests may name by path. check: called every second while the replicas start, and
    may raise. UserError: no checkpoint, replicas do not fit, one fails or is late.
    """
    check_checkpoint(Path(model))
    settings = program.fitted(settings, Path(model), device)
    parallel = 1 if device == "cpu" else settings.tensor_parallel_size
    gpus_here = range(first_gpu, first_gpu + settings.replicas * parallel)
    machine = ServiceNode("this machine", address, tuple(gpus_here))
    key = secrets.token_urlsafe(32)
    readable = str(images.resolve()) if images else ""
    servers: list[ReplicaServer] = []
    file = folder / "endpoints.json"
    try:
        for place in place_replicas([machine], settings.replicas, parallel):
            gpus = () if device == "cpu" else gpu_numbers(place.gpus)
            own = f"{name}-{place.replica}"
            spec = ReplicaSpec(own, machine.name, str(model), address, device, gpus, folder, settings, readable)
            servers.append(ReplicaServer(spec, key, program.command, port + place.replica if port else 0))
        for server in servers:
            server.start()
        wait_until_healthy(lambda: [server.status() for server in servers], settings.start_timeout_s, on_message, check)
        endpoints_of([server.url for server in servers], key, settings, readable).write(file)
        yield Serving(file, tuple(servers))
    finally:
        file.unlink(missing_ok=True)
        for server in servers:
            server.request_stop()
        for server in servers:
            server.stop()


def endpoints_of(urls: Sequence[str], key: str, settings: ProxySettings, images: str = "") -> Endpoints:
    """images: absolute path of the folder that the replicas may read, or ""."""
    return Endpoints(
        replicas=tuple(urls),
        api_key=key,
        max_tokens=settings.longest_answer,
        max_num_seqs=settings.max_num_seqs,
        call_timeout_s=settings.call_timeout_s,
        image_folder=images,
        images_by_name=True,
        mode=settings.mode,
        proven=True,
    )
