"""The platform `cpu` for verl (see the package docstring)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry
from verl.utils import distributed


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _zero(*_: Any, **__: Any) -> int:
    return 0


def _memory(*_: Any, **__: Any) -> tuple[int, int]:
    """(free, total) bytes of the machine."""
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


MISSING_IN_TORCH_CPU = {
    "empty_cache": _nothing,
    "ipc_collect": _nothing,
    "reset_peak_memory_stats": _nothing,
    "set_per_process_memory_fraction": _nothing,
    "memory_allocated": _zero,
    "memory_reserved": _zero,
    "max_memory_allocated": _zero,
    "max_memory_reserved": _zero,
    "mem_get_info": _memory,
    "manual_seed": torch.manual_seed,
    "manual_seed_all": torch.manual_seed,
    "get_rng_state": lambda *_, **__: torch.get_rng_state(),
    "set_rng_state": lambda state, *_, **__: torch.set_rng_state(state),
    "get_device_name": lambda *_, **__: "CPU",
}
for _name, _function in MISSING_IN_TORCH_CPU.items():
    if not hasattr(torch.cpu, _name):
        setattr(torch.cpu, _name, _function)


@PlatformRegistry.register(platform="cpu")
class CPUPlatform(PlatformBase):
    """One device per worker; Ray's resource is still called GPU, because verl counts only GPU and NPU slots."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = torch.cpu

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:
        # verl only calls `tensor.to(current_device())`.
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        return None

    def synchronize(self, device_index: int | None = None) -> None:
        return None

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        return None

    def empty_cache(self) -> None:
        return None

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_resource_options(self, num_gpus: float) -> dict[str, Any]:
        return {"num_gpus": num_gpus}

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        # False: verl sends weights to vLLM through shared memory.
        return False

    def rollout_env_vars(self) -> dict[str, str]:
        return {"VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")}

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        return None

    def profiler_stop(self) -> None:
        return None

    def cudart(self) -> None:
        return None


if os.environ.get("VERL_PLATFORM", "").lower() == "cpu":
    distributed.initialize_global_process_group_ray.__defaults__ = (None, "cpu:gloo")


_as_nested_tensor = torch.nested.as_nested_tensor


def _as_nested_by_length(tensors: Any, *args: Any, **options: Any) -> Any:
    """Position ids are (4, length). When all rollouts are equally long, torch makes the 4 the ragged dimension and verl
    fails on it later; a tiny model that has learned its format does write equally long critiques."""
    if options.get("layout") is torch.jagged and isinstance(tensors, list | tuple) and len(tensors):
        first = tensors[0]
        same_shape = all(t.shape == first.shape and t.dtype == torch.int64 and t.dim() == 2 for t in tensors)
        if same_shape and first.shape[0] in (3, 4) and first.shape[1] != first.shape[0]:
            from verl.utils.tensordict_utils import nested_tensor_from_tensor_list

            return nested_tensor_from_tensor_list(list(tensors))
    return _as_nested_tensor(tensors, *args, **options)


torch.nested.as_nested_tensor = _as_nested_by_length
