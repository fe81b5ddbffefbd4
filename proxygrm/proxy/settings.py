"""How the proxy is served. Which checkpoint, and on which device, is said where it is started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from proxygrm.bounds import require
from proxygrm.errors import UserError

Mode = Literal["critique", "verdict"]
"""critique: the proxy reasons, then says which response is better (upstream's). verdict: it says so at once, and the
probabilities of the two digits give a score between. Another mode is another reward: docs/proxy-modes.md."""
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class ProxySettings:
    """The defaults are upstream's server (SPEC section 1): greedy, 32,000 tokens, 64 sequences, TP 4."""

    mode: Mode = "critique"
    """What the proxy is asked for."""
    replicas: int = 1
    tensor_parallel: int = 4
    """GPUs a replica."""
    max_model_len: int = 32000
    """Prompt and answer together, in tokens."""
    max_num_seqs: int = 64
    """Sequences a replica decodes at a time; also how many requests one client sends it at a time."""
    max_tokens: int = 16384
    """Longest answer, in tokens."""
    max_pixels: int = 1003520
    """Larger pictures are scaled down to this many pixels, as in SFT (SPEC section 1). 0: what the checkpoint says."""
    gpu_memory_utilization: float = 0.9
    call_timeout_s: float = 600.0
    """A judgement, retries included, may take this long; after it the rollout stays unscored."""
    start_timeout_s: float = 1200.0
    """All replicas must answer within this time."""
    max_restarts: int = 3
    """A replica that dies more often than this ends the job."""
    extra_args: tuple[str, ...] = ()
    """Further arguments of `vllm serve`."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"proxy: mode is {self.mode!r}; it must be {' or '.join(MODES)}")
        require(
            "proxy",
            self,
            positive=("gpu_memory_utilization", "call_timeout_s", "start_timeout_s"),
            from_one=("replicas", "tensor_parallel", "max_model_len", "max_num_seqs", "max_tokens"),
            from_zero=("max_pixels", "max_restarts"),
            shares=("gpu_memory_utilization",),
        )
        if self.max_tokens >= self.max_model_len:
            raise UserError(
                f"proxy: max_tokens {self.max_tokens} leaves no room for a prompt in max_model_len {self.max_model_len}"
            )
        if any("api-key" in argument for argument in self.extra_args):
            raise UserError("proxy: no --api-key in extra_args: command lines are public; a key is made for each job")
