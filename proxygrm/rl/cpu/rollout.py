"""vLLM on CPUs under verl's own replica (see the package docstring)."""

from __future__ import annotations

import multiprocessing
from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """vLLM creates its worker from this class before it loads the model."""

    def __new__(cls, **kwargs: Any) -> CPUWorkerExtension:
        import vllm._custom_ops as ops

        ops._supports_onednn = False  # plain torch linear: load_weights() can replace the weight
        return super().__new__(cls, **kwargs)


def replica_class() -> type:
    """verl's vLLM replica whose servers use `CPUWorkerExtension`."""
    import ray
    import vllm.v1.engine.utils as engine_start
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

    class CPUServer(vLLMHttpServer):
        def _get_worker_extension_cls(self) -> str:
            return f"{CPUWorkerExtension.__module__}.{CPUWorkerExtension.__name__}"

        async def run_server(self, args: Any) -> None:
            # vLLM spawns inside Ray actors because a forked child must not use CUDA; there is no CUDA here.
            engine_start.get_mp_context = lambda: multiprocessing.get_context("fork")
            await super().run_server(args)

    class CPUReplica(vLLMReplica):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.server_class = ray.remote(CPUServer)

    return CPUReplica
