"""The command line and environment of one `vllm serve`. Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.runtime.telemetry import NO_TELEMETRY
from proxygrm.core.runtime.vllm_plugins import plugins
from proxygrm.serving.endpoints import SERVED_NAME
from proxygrm.serving.settings import ProxySettings

MAX_IMAGES = 8
"""Of one request."""
CPU_BLOCK_TOKENS = 32
"""Blocks of KV cache must be this small for the shared prefixes of our prompts to be reused."""
CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # "auto" pins every replica of a machine to the same core
    "OMP_NUM_THREADS": "1",
    # vLLM compiles parts with g++ even when it runs eagerly: 20 s at each start, and it needs a compiler.
    "TORCHDYNAMO_DISABLE": "1",
    # Lets the engine process run the model itself; otherwise it starts a third interpreter for it.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


@dataclass(frozen=True)
class ReplicaSpec:
    """name: also of its log. address: of the node, bound and published. gpus: CUDA numbers, empty on CPUs.
    images: absolute path of the folder whose images requests may name by `file:` URL; "" for none."""

    name: str
    node: str
    model: str
    address: str
    device: str
    gpus: tuple[str, ...]
    log_dir: Path
    settings: ProxySettings
    images: str = ""

    @property
    def log(self) -> Path:
        return self.log_dir / f"{self.name}.log"


def serve_command(spec: ReplicaSpec, port: int) -> list[str]:
    """Every user of the node can read the arguments, so the key is in the environment instead."""
    s = spec.settings
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", spec.model]
    command += ["--served-model-name", SERVED_NAME, "--host", spec.address, "--port", str(port)]
    command += ["--max-model-len", str(s.max_model_len), "--max-num-seqs", str(s.max_num_seqs)]
    command += ["--enable-prefix-caching", "--uvicorn-log-level", "warning"]
    command += ["--middleware", "proxygrm.serving.replicas.inside_vllm.RequireKey", "--disable-fastapi-docs"]
    # The checkpoint's own sampling defaults (Qwen2.5-VL: a repetition penalty) would change a greedy answer.
    command += ["--generation-config", "vllm"]
    command += ["--limit-mm-per-prompt", json.dumps({"image": MAX_IMAGES, "video": 0})]
    command += ["--trust-remote-code" if s.trust_remote_code else "--no-trust-remote-code"]
    if spec.images:
        command += ["--allowed-local-media-path", spec.images]
    if s.max_pixels:
        command += ["--mm-processor-kwargs", json.dumps({"max_pixels": s.max_pixels})]
    if spec.device == "cpu":
        command += ["--dtype", "float32", "--enforce-eager", "--skip-mm-profiling"]
        command += ["--distributed-executor-backend", "uni", "--block-size", str(CPU_BLOCK_TOKENS)]
        command += ["--no-enable-chunked-prefill"]  # a seeded request fails when its prompt is read in parts
    else:
        command += ["--tensor-parallel-size", str(s.tensor_parallel_size)]
        command += ["--gpu-memory-utilization", str(s.gpu_memory_utilization)]
    return command + list(s.extra_args)


@dataclass(frozen=True)
class Program:
    """What a replica runs."""

    command: Callable[[ReplicaSpec, int], list[str]]
    """Its words, given the port. It reads the key from $VLLM_API_KEY, proves it, and shares its port (SO_REUSEPORT)."""
    fitted: Callable[[ProxySettings, Path, str], ProxySettings]
    """The settings as a checkpoint allows them on a device. UserError before anything is started."""


VLLM = Program(serve_command, ProxySettings.fitted)


def serve_environment(spec: ReplicaSpec, api_key: str, base: Mapping[str, str]) -> dict[str, str]:
    """The server's environment from that of its supervisor, which may be a Ray worker."""
    # Ray blanks CUDA_VISIBLE_DEVICES of a worker without GPUs, and vLLM must not see Ray's own variables.
    environment = {name: value for name, value in base.items() if not name.startswith("RAY_")}
    environment |= {
        "VLLM_API_KEY": api_key,
        "VLLM_HOST_IP": spec.address,
        **NO_TELEMETRY,
        **plugins(base),
        "CUDA_VISIBLE_DEVICES": ",".join(spec.gpus),
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment | CPU_ENVIRONMENT if spec.device == "cpu" else environment
