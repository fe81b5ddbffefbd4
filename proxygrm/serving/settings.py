"""How the proxy is served. The checkpoint and the device are arguments where it is started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

from proxygrm.core.bounds import check_bounds
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.limits import check_servable, context_length
from proxygrm.core.errors import UserError

Mode = Literal["critique", "verdict"]
"""critique: the proxy reasons, then gives its verdict (upstream's). verdict: it gives its verdict at once, and the
probabilities of the two digits give a score in between. Another mode is another reward: docs/proxy-modes.md."""
MODES: tuple[Mode, ...] = get_args(Mode)
CONTEXT, ANSWER = 32000, 16384
"""Tokens of upstream's server: prompt and answer together, and the longest answer."""


@dataclass(frozen=True)
class ProxySettings:
    """The defaults are those of upstream's server: greedy, 32,000 tokens where the checkpoint has them, 64 sequences,
    TP 4."""

    mode: Mode = "critique"
    """Reason first, or a verdict at once."""
    replicas: int = 1
    tensor_parallel_size: int = 4
    """GPUs per replica."""
    max_model_len: int = 0
    """Prompt and answer together, in tokens. 0: what the checkpoint allows, at most 32,000."""
    max_num_seqs: int = 64
    """Sequences that a replica decodes at a time; also how many requests one client sends it at a time."""
    max_tokens: int = 0
    """Longest answer, in tokens. 0: 16,384, and in a context of less than 32,000 the same share of it."""
    max_pixels: int = 1003520
    """Larger images are scaled down to this many pixels, as in SFT. 0: the checkpoint's own value."""
    gpu_memory_utilization: float = 0.9
    call_timeout_s: float = 600.0
    """Deadline of a judgement, retries included; after it the rollout is unscored."""
    start_timeout_s: float = 1200.0
    """All replicas must answer within this time."""
    max_restarts: int = 3
    """A replica that dies more often than this ends the job."""
    extra_args: tuple[str, ...] = ()
    """Further arguments of `vllm serve`."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint; otherwise such a checkpoint is refused."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(
                f"proxy: mode is {self.mode!r}; it must be {' or '.join(MODES)}",
                code="settings.unknown-value",
                name="mode",
                value=self.mode,
            )
        check_bounds(
            "proxy",
            self,
            positive=("gpu_memory_utilization", "call_timeout_s", "start_timeout_s"),
            from_one=("replicas", "tensor_parallel_size", "max_num_seqs"),
            from_zero=("max_pixels", "max_restarts", "max_model_len", "max_tokens"),
            shares=("gpu_memory_utilization",),
        )
        if self.max_tokens >= (length := self.max_model_len or CONTEXT):
            raise UserError(
                f"proxy: max_tokens {self.max_tokens} leaves no room for a prompt in max_model_len {length}",
                code="proxy.no-room-for-prompt",
                max_tokens=self.max_tokens,
                max_model_len=length,
            )
        if any("api-key" in argument for argument in self.extra_args):
            raise UserError(
                "proxy: no --api-key in extra_args: command lines are public; a key is made for each job",
                code="proxy.reserved-argument",
                argument="--api-key",
            )
        if any("trust" in argument.replace("_", "-") for argument in self.extra_args):
            raise UserError(
                "proxy: no --trust-remote-code in extra_args: trust_remote_code is a setting",
                code="proxy.reserved-argument",
                argument="--trust-remote-code",
            )

    @classmethod
    def demo(cls) -> Self:
        """The tiny proxy on one CPU core."""
        return cls(
            replicas=1,
            tensor_parallel_size=1,
            max_model_len=1024,
            max_num_seqs=32,
            max_tokens=64,
            max_pixels=0,
            call_timeout_s=120.0,
        )

    @property
    def longest_answer(self) -> int:
        """In tokens, as far as that is known without the checkpoint."""
        return self.max_tokens or min(ANSWER, (self.max_model_len or CONTEXT) * ANSWER // CONTEXT)

    def fitted(self, model: Path, device: str) -> ProxySettings:
        """The same with both lengths as numbers that this checkpoint allows. UserError, before anything is started, for
        lengths or GPUs that it does not allow."""
        refuse_code(model, self.trust_remote_code)
        check_servable(model, 1 if device == "cpu" else self.tensor_parallel_size)
        length = context_length(model, self.max_model_len, CONTEXT)
        if self.max_tokens >= length:
            raise UserError(
                f"max_tokens is {self.max_tokens}, which leaves no room for a prompt in the {length} tokens that "
                f"{model} is served with; give fewer",
                code="proxy.no-room-for-prompt",
                max_tokens=self.max_tokens,
                max_model_len=length,
                path=model,
            )
        served = replace(self, max_model_len=length)
        return replace(served, max_tokens=served.longest_answer)
