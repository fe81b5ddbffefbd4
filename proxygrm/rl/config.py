"""Every hyper-parameter of the RL stage, with upstream's values for its defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from proxygrm.core.bounds import require
from proxygrm.core.checkpoints.attention import KERNELS
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.limits import check_servable, context_length
from proxygrm.core.errors import UserError
from proxygrm.rewards.proxy_agreement import resolve_aggregation

KL_TYPES = ("low_var_kl", "k3", "kl", "k1", "mse", "k2", "abs")
"""verl's estimators; with a + behind, the gradient is k2's."""


@dataclass(frozen=True)
class RlSettings:
    """GRPO with verl. Lengths are tokens; batch sizes count prompts, micro-batches count rollouts."""

    batch: int = 256
    """Prompts a step."""
    mini_batch: int = 128
    """Prompts an optimiser step."""
    micro_batch: int = 8
    """Rollouts a forward and backward pass on one GPU."""
    n: int = 8
    """Rollouts a prompt: the group GRPO compares."""
    lr: float = 3e-7
    kl_coefficient: float = 0.01
    kl_type: str = "low_var_kl"
    entropy_coefficient: float = 0.0
    prompt_length: int = 4096
    response_length: int = 8192
    temperature: float = 1.0
    epochs: int = 1
    total_steps: int | None = None
    """Stop after this many steps, whatever the epochs; None runs the epochs out."""
    save_every: int = 5
    test_every: int = 1
    """Validate every so many steps and once before training; 0 never."""
    keep_checkpoints: int = 2
    seed: int = 42
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint; otherwise such a checkpoint is refused."""
    attention: str = "auto"
    """auto: flash_attention_2 where flash-attn is installed, else sdpa, which computes the padding too."""
    rollout_tensor_parallel: int = 2
    gpu_memory_utilisation: float = 0.6
    max_sequences: int = 1024
    """Sequences vLLM decodes at a time."""
    agent_loop_workers: int = 8
    reward_workers: int = 8
    storage_units: int = 8
    """Processes that hold the rollouts between the steps of an iteration (TransferQueue)."""
    dataloader_workers: int = 8
    task: Literal["grm", "proxy"] = "grm"
    """What the policy writes: critiques, or a proxy's verdicts (whose reward is accuracy + 0.5 format, no proxy)."""
    aggregation: str = "sum"
    """How accuracy, proxy and format become one score: `proxygrm.rewards.proxy_agreement`."""
    use_proxy: bool = True
    deny_leaks: bool = True
    """A rubric that names the winner is not shown to the proxy, and earns nothing from it."""
    early_rubric: bool = False
    """Let the proxy judge a rubric as soon as it is closed, while evaluation and verdict are still being generated."""
    max_unscored: float = 0.02
    """Largest share of a step's rollouts that may lose their reward before the run stops: the proxy could not be
    asked, a picture is gone, a rollout was never generated. See docs/proxy.md."""
    max_no_verdict: float = 0.1
    """Largest share of a step's rollouts on which the proxy may answer without a verdict before the run stops."""

    def __post_init__(self) -> None:
        require(
            "rl",
            self,
            positive=("lr", "temperature", "gpu_memory_utilisation"),
            from_one=(
                "batch",
                "mini_batch",
                "micro_batch",
                "prompt_length",
                "response_length",
                "epochs",
                "save_every",
                "keep_checkpoints",
                "rollout_tensor_parallel",
                "max_sequences",
                "agent_loop_workers",
                "reward_workers",
                "storage_units",
            ),
            from_zero=("kl_coefficient", "test_every", "dataloader_workers"),
            shares=("gpu_memory_utilisation", "max_unscored", "max_no_verdict"),
            choices={"attention": KERNELS},
        )
        if self.total_steps is not None and self.total_steps < 1:
            raise UserError(f"rl: total_steps is {self.total_steps}; it must be at least 1, or none for whole epochs")
        if self.kl_type.removesuffix("+") not in KL_TYPES:
            raise UserError(f"rl: kl_type is {self.kl_type!r}; it is one of {', '.join(KL_TYPES)}")
        resolve_aggregation(self.aggregation)
        if self.batch % self.mini_batch:
            raise UserError(f"rl: batch {self.batch} is not a multiple of mini_batch {self.mini_batch}")
        if self.n < 2:
            raise UserError(f"rl: n is {self.n}; GRPO compares rollouts of one prompt and needs at least 2")
        if self.task == "proxy" and self.use_proxy:
            raise UserError("rl: task is proxy, and a proxy in training is judged by no other; set use_proxy=false")

    @classmethod
    def paper(cls) -> RlSettings:
        """Upstream's hyper-parameters for the 7B model on 8 GPUs: the defaults."""
        return cls()

    @classmethod
    def demo(cls, total_steps: int = 24) -> RlSettings:
        """A tiny model on two CPU cores: few processes, because their start is most of the time.

        The demo has 80 RL pairs, so 24 steps are three epochs, and each epoch can be compared with the last.
        """
        return cls(
            batch=10,
            mini_batch=10,
            micro_batch=16,
            lr=1.5e-4,
            temperature=1.2,  # a tiny model is sure of itself after SFT: explore more than a real one needs
            prompt_length=512,
            response_length=160,
            total_steps=total_steps,
            epochs=100,
            save_every=5,
            test_every=0,
            rollout_tensor_parallel=1,
            max_sequences=64,
            agent_loop_workers=1,
            reward_workers=1,
            storage_units=1,
            dataloader_workers=0,
            max_no_verdict=0.3,  # a tiny proxy does not always answer to its contract
        )

    def for_proxy(self, response_length: int) -> RlSettings:
        """The same for training the proxy itself: its answers are short, and nobody judges them but the label."""
        return replace(self, task="proxy", use_proxy=False, response_length=response_length)

    def fitted(self, devices: int) -> RlSettings:
        """The same with the largest batches, no larger than asked, that `devices` can share evenly.

        verl wants mini_batch x n to be a multiple of the devices: 128 x 8 on 24 GPUs becomes 126 x 8. A device's
        share of that must be a multiple of micro_batch, which changes memory and speed only: 42 rollouts in passes of
        8 become passes of 7.
        """
        step = devices // math.gcd(devices, self.n)
        mini_batch = self.mini_batch // step * step
        if mini_batch == 0:
            raise UserError(
                f"rl: mini_batch {self.mini_batch} x n {self.n} rollouts cannot be shared by {devices} devices; "
                f"raise mini_batch to {step} or take fewer nodes"
            )
        share = mini_batch * self.n // devices
        micro_batch = max(size for size in range(1, min(self.micro_batch, share) + 1) if share % size == 0)
        batch = self.batch // self.mini_batch * mini_batch
        return replace(self, batch=batch, mini_batch=mini_batch, micro_batch=micro_batch)

    def check_policy(self, model: Path, device: str) -> None:
        """Refuse, before anything is started, a checkpoint with code, and rollouts that vLLM would not serve it for."""
        refuse_code(model, self.trust_remote_code)
        check_servable(model, 1 if device == "cpu" else self.rollout_tensor_parallel, "rl.rollout_tensor_parallel")
        length = self.prompt_length + self.response_length
        context_length(model, length, length, "rl.prompt_length + rl.response_length")

    def check_against(self, *, rows: int, devices: int) -> None:
        """Refuse what verl would refuse minutes later: too few training rows, batches the devices cannot share."""
        if rows < self.batch:
            raise UserError(f"rl: {rows} training rows do not fill one batch of {self.batch}; lower batch")
        if self.mini_batch * self.n % devices:
            raise UserError(
                f"rl: mini_batch {self.mini_batch} x n {self.n} rollouts cannot be shared by {devices} devices"
            )
        if devices % self.rollout_tensor_parallel:
            raise UserError(
                f"rl: {devices} devices are no multiple of rollout_tensor_parallel {self.rollout_tensor_parallel}"
            )
