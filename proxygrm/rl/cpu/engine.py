"""verl's FSDP2 engine and its vLLM rollout, registered for CPUs (see the package docstring)."""

from __future__ import annotations

from typing import Any

from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.rollout.replica import RolloutReplicaRegistry

import proxygrm.rl.guards.text_only  # noqa: F401 - as on GPUs


@EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device="cpu")
class FSDP2EngineOnCPU(FSDPEngineWithLMHead):
    def _build_fsdp_module(self, module: Any) -> Any:
        config = self.engine_config
        forward_only = config.forward_only
        object.__setattr__(config, "forward_only", False)  # a frozen dataclass
        try:
            return super()._build_fsdp_module(module)
        finally:
            object.__setattr__(config, "forward_only", forward_only)


def _cpu_replica() -> type:
    from proxygrm.rl.cpu.rollout import replica_class

    return replica_class()


RolloutReplicaRegistry.register("vllm", _cpu_replica)
