"""vLLM on CPUs under verl's own replica (see the package docstring)."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """vLLM makes its worker from this class before it loads the model."""

    def __new__(cls, **kwargs: Any) -> CPUWorkerExtension:
        import vllm._custom_ops as ops

        ops._supports_onednn = False  # plain torch linear: the weight stays where load_weights() finds it
        return super().__new__(cls, **kwargs)


def _socket_tag() -> str:
    """verl names the sockets that weights travel through by Ray's job number, which is 1 in every fresh cluster:
    two clusters on one machine would meet in the same file. The cluster's address makes them differ."""
    import ray

    context = ray.get_runtime_context()
    return f"{context.get_job_id()}-{context.gcs_address.replace(':', '-')}"


class CPUServerAdapter(ServerAdapter):
    """The trainer's end of the weights' way to vLLM."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        import ray

        super().__init__(*args, **kwargs)
        handle: str = self.zmq_handle  # type: ignore[has-type]
        self.zmq_handle = handle.replace(ray.get_runtime_context().get_job_id(), _socket_tag())


def replica_class() -> type:
    """verl's vLLM replica whose servers use `CPUWorkerExtension`."""
    import ray
    import vllm.v1.engine.utils as engine_start
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

    class CPUServer(vLLMHttpServer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            os.environ["VERL_RAY_JOB_ID"] = _socket_tag()  # vLLM's end makes the socket's name from it

        def _get_worker_extension_cls(self) -> str:
            return f"{CPUWorkerExtension.__module__}.{CPUWorkerExtension.__name__}"

        async def run_server(self, args: Any) -> None:
            # vLLM spawns inside Ray actors because a forked child must not use CUDA; there is none here.
            engine_start.get_mp_context = lambda: multiprocessing.get_context("fork")
            await super().run_server(args)

    class CPUReplica(vLLMReplica):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.server_class = ray.remote(CPUServer)

    return CPUReplica
