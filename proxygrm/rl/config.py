"""Every hyper-parameter of the RL stage, with upstream's values for its defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from proxygrm.core.bounds import check_bounds
from proxygrm.core.checkpoints.attention import KERNELS
from proxygrm.core.checkpoints.best import BEST
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.limits import check_servable, context_length
from proxygrm.core.errors import UserError
from proxygrm.core.settings import AFTERWARDS, chosen_from
from proxygrm.rewards import REWARDS, Reward
from proxygrm.rewards.proxy_verdict import ProxyVerdict
from proxygrm.rl.algorithms import ALGORITHMS, Algorithm

KL_TYPES = ("low_var_kl", "k3", "kl", "k1", "mse", "k2", "abs")
"""verl's estimators; with a + appended, the gradient is k2's."""


@dataclass(frozen=True)
class RlSettings:
    """RL with verl: what all algorithms share. Lengths in tokens; batch sizes in prompts, micro-batches in rollouts."""

    train_batch_size: int = 256
    """Prompts per step."""
    ppo_mini_batch_size: int = 128
    """Prompts per optimiser step."""
    ppo_micro_batch_size_per_gpu: int = 8
    """Rollouts per forward and backward pass on one GPU."""
    n: int = 8
    """Rollouts per prompt: the group that is compared."""
    algorithm: Algorithm = chosen_from(ALGORITHMS, "grpo")
    """By name, with its own options: `proxygrm.rl.algorithms`."""
    learning_rate: float = 3e-7
    kl_loss_coef: float = 0.01
    kl_loss_type: str = "low_var_kl"
    entropy_coeff: float = 0.0
    max_prompt_length: int = 4096
    max_response_length: int = 8192
    temperature: float = 1.0
    num_train_epochs: int = 1
    max_steps: int | None = None
    """Stop after this many steps; None runs all epochs."""
    save_steps: int = 5
    eval_steps: int = 1
    """Validate every so many steps and once before training; 0: never."""
    best_by: str = "score"
    """What validation compares checkpoints by: the mean score, or another number of the reward, such as accuracy."""
    checkpoint: Literal["last", "best"] = field(default="last", metadata=AFTERWARDS)
    """The policy that the chain goes on with. Both are kept; changing this trains nothing again."""
    early_stop: int = 0
    """Stop after this many validations in a row that bring nothing better; 0: never."""
    save_total_limit: int = 2
    seed: int = 42
    trust_remote_code: bool = False
    """Run Python code of the checkpoint; otherwise a checkpoint with code is refused."""
    attn_implementation: str = "auto"
    """auto: flash_attention_2 where flash-attn is installed, else sdpa, which computes the padding too."""
    tensor_parallel_size: int = 2
    gpu_memory_utilization: float = 0.6
    max_num_seqs: int = 1024
    """Sequences that vLLM decodes at a time."""
    agent_num_workers: int = 8
    reward_num_workers: int = 8
    num_data_storage_units: int = 8
    """Processes that hold the rollouts between the steps of an iteration (TransferQueue)."""
    dataloader_num_workers: int = 8
    reward: Reward = chosen_from(REWARDS, "proxy_agreement")
    """By name, with its own options: `proxygrm.rewards`."""
    max_unscored: float = 0.02
    """Largest share of a step's rollouts that may lose their reward before the run stops: the proxy could not be
    reached, an image is missing, a rollout was never generated. See docs/proxy.md."""
    max_no_verdict: float = 0.1
    """Largest share of a step's rollouts on which the proxy may answer without a verdict before the run stops."""

    def __post_init__(self) -> None:
        check_bounds(
            "rl",
            self,
            positive=("learning_rate", "temperature", "gpu_memory_utilization"),
            from_one=(
                "train_batch_size",
                "ppo_mini_batch_size",
                "ppo_micro_batch_size_per_gpu",
                "max_prompt_length",
                "max_response_length",
                "num_train_epochs",
                "save_steps",
                "save_total_limit",
                "tensor_parallel_size",
                "max_num_seqs",
                "agent_num_workers",
                "reward_num_workers",
                "num_data_storage_units",
            ),
            from_zero=("kl_loss_coef", "eval_steps", "early_stop", "dataloader_num_workers"),
            shares=("gpu_memory_utilization", "max_unscored", "max_no_verdict"),
            choices={"attn_implementation": KERNELS},
        )
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(
                f"rl: max_steps is {self.max_steps}; it must be at least 1, or none for whole epochs",
                code="settings.out-of-range",
                name="max_steps",
                value=self.max_steps,
            )
        if self.kl_loss_type.removesuffix("+") not in KL_TYPES:
            raise UserError(
                f"rl: kl_loss_type is {self.kl_loss_type!r}; it must be one of {', '.join(KL_TYPES)}",
                code="settings.unknown-value",
                name="kl_loss_type",
                value=self.kl_loss_type,
                known=list(KL_TYPES),
            )
        if self.train_batch_size % self.ppo_mini_batch_size:
            raise UserError(
                f"rl: train_batch_size {self.train_batch_size} is not a multiple of ppo_mini_batch_size "
                f"{self.ppo_mini_batch_size}",
                code="rl.indivisible-batch",
                batch=self.train_batch_size,
                mini_batch=self.ppo_mini_batch_size,
            )
        least = 2 if self.algorithm.compares_groups else 1
        if self.n < least:
            compares = f"{self.algorithm.kind} compares rollouts of one prompt and needs" if least > 1 else "it must be"
            raise UserError(
                f"rl: n is {self.n}; {compares} at least {least}",
                code="settings.out-of-range",
                name="n",
                value=self.n,
            )

        if not self.eval_steps and (self.checkpoint == "best" or self.early_stop):
            setting = "checkpoint=best" if self.checkpoint == "best" else f"early_stop={self.early_stop}"
            raise UserError(
                f"rl: {setting} needs a validation; set eval_steps", code="settings.contradiction", setting=setting
            )

    @property
    def chosen(self) -> str:
        """The folder that the chain goes on with."""
        return BEST if self.checkpoint == "best" else "policy"

    @classmethod
    def paper(cls) -> Self:
        """Upstream's hyper-parameters for the 7B model on 8 GPUs: the defaults."""
        return cls()

    @classmethod
    def demo(cls, max_steps: int = 24) -> Self:
        """A tiny model on two CPU cores: few processes, because starting them takes most of the time.

        The demo has 80 RL pairs, so 24 steps are three epochs, and each epoch can be compared with the last.
        """
        return cls(
            train_batch_size=10,
            ppo_mini_batch_size=10,
            ppo_micro_batch_size_per_gpu=16,
            algorithm=ALGORITHMS["grpo"](bypass_mode=True),  # one update per batch: the trainer's pass says the same
            learning_rate=1.5e-4,
            temperature=1.2,  # a tiny model is overconfident after SFT and needs more exploration than a real one
            max_prompt_length=512,
            max_response_length=160,
            max_steps=max_steps,
            num_train_epochs=100,
            save_steps=8,
            eval_steps=8,
            tensor_parallel_size=1,
            max_num_seqs=64,
            agent_num_workers=1,
            reward_num_workers=1,
            num_data_storage_units=1,
            dataloader_num_workers=0,
            max_no_verdict=0.3,  # a tiny proxy often answers without a verdict
        )

    def for_proxy(self, max_response_length: int) -> Self:
        """The same for training the proxy itself: its answers are short, and only the label judges them."""
        return replace(self, reward=ProxyVerdict(), max_response_length=max_response_length)

    def fitted(self, devices: int) -> Self:
        """The same with the largest batches, no larger than configured, that `devices` can share evenly.

        verl requires ppo_mini_batch_size x n to be a multiple of the devices: 128 x 8 on 24 GPUs becomes 126 x 8. A
        device's share of that must be a multiple of ppo_micro_batch_size_per_gpu, which changes memory and speed only:
        42 rollouts in passes of 8 become passes of 7.
        """
        step = devices // math.gcd(devices, self.n)
        mini = self.ppo_mini_batch_size // step * step
        if mini == 0:
            raise UserError(
                f"rl: ppo_mini_batch_size {self.ppo_mini_batch_size} x n {self.n} rollouts cannot be shared by "
                f"{devices} devices; raise ppo_mini_batch_size to {step} or use fewer nodes",
                code="rl.indivisible-devices",
                devices=devices,
                needed=step,
            )
        share = mini * self.n // devices
        largest = min(self.ppo_micro_batch_size_per_gpu, share)
        return replace(
            self,
            train_batch_size=self.train_batch_size // self.ppo_mini_batch_size * mini,
            ppo_mini_batch_size=mini,
            ppo_micro_batch_size_per_gpu=max(size for size in range(1, largest + 1) if share % size == 0),
        )

    def check_policy(self, model: Path, device: str) -> None:
        """Refuse, before anything starts, a checkpoint with code, or one that vLLM cannot serve for these rollouts."""
        refuse_code(model, self.trust_remote_code)
        check_servable(model, 1 if device == "cpu" else self.tensor_parallel_size, "rl.tensor_parallel_size")
        length = self.max_prompt_length + self.max_response_length
        context_length(model, length, length, "rl.max_prompt_length + rl.max_response_length")

    def check_against(self, *, rows: int, devices: int) -> None:
        """Refuse early what verl refuses minutes later: too few training rows, batches the devices cannot share."""
        if rows < self.train_batch_size:
            raise UserError(
                f"rl: {rows} training rows do not fill one batch of {self.train_batch_size}; lower train_batch_size",
                code="rl.too-few-rows",
                rows=rows,
                batch=self.train_batch_size,
            )
        if self.ppo_mini_batch_size * self.n % devices:
            raise UserError(
                f"rl: ppo_mini_batch_size {self.ppo_mini_batch_size} x n {self.n} rollouts cannot be shared by "
                f"{devices} devices",
                code="rl.indivisible-devices",
                devices=devices,
            )
        if devices % self.tensor_parallel_size:
            raise UserError(
                f"rl: {devices} devices are not a multiple of tensor_parallel_size {self.tensor_parallel_size}",
                code="rl.indivisible-devices",
                devices=devices,
            )
