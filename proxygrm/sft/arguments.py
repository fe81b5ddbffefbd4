"""Every hyper-parameter of an SFT stage, and the one place where ms-swift's arguments are written (4.6 names)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from proxygrm.core.bounds import check_bounds
from proxygrm.core.checkpoints.attention import KERNELS, attention
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.telemetry import NO_TELEMETRY
from proxygrm.core.runtime.tracking import PROJECT, Mode

TRUST = "PROXYGRM_TRUST_REMOTE_CODE"
"""Read by the plugin: ms-swift has no option for it, and trusts every checkpoint."""
PLUGIN = Path(__file__).with_name("plugin.py")
DTYPES = ("bfloat16", "float16", "float32")
PRESETS = ("zero0", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload")
SCHEDULERS = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
)
_PASSED_ON = ("HF_HUB_OFFLINE", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class SftSettings:
    """Full fine-tuning of a Qwen2.5-VL. Lengths are tokens; the batch of a step is
    per_device_train_batch_size x gradient_accumulation_steps x devices rows."""

    learning_rate: float = 5e-6
    num_train_epochs: float = 1
    max_steps: int | None = None
    """Stop after this many optimiser steps; None runs all epochs."""
    per_device_train_batch_size: int = 2
    gradient_accumulation_steps: int = 1
    max_length: int = 8192
    warmup_ratio: float = 0.05
    weight_decay: float = 0.1
    adam_beta2: float = 0.95
    lr_scheduler_type: str = "cosine"
    freeze_vit: bool = False
    freeze_aligner: bool = False
    gradient_checkpointing: bool = True
    deepspeed: str = "zero2"
    """Preset of ms-swift (PRESETS) or a DeepSpeed .json; empty for none."""
    torch_dtype: str = "bfloat16"
    attn_implementation: str = "auto"
    """auto: flash_attention_2 where flash-attn is installed, else sdpa; or a name that ms-swift knows."""
    max_pixels: int = 1003520
    """Larger images are scaled down to this many pixels."""
    split_dataset_ratio: float = 0.01
    """Share of the rows held out for the evaluation loss; 0 for none."""
    save_steps: int = 100
    save_total_limit: int = 2
    logging_steps: int = 5
    dataloader_num_workers: int = 4
    strict: bool = True
    """Stop at a row that is too long or whose image cannot be read; otherwise ms-swift trains another row twice."""
    seed: int = 42
    trust_remote_code: bool = False
    """Run Python code of the checkpoint; otherwise a checkpoint with code is refused."""

    def __post_init__(self) -> None:
        check_bounds(
            "sft",
            self,
            positive=("num_train_epochs", "learning_rate"),
            from_one=(
                "per_device_train_batch_size",
                "gradient_accumulation_steps",
                "max_length",
                "max_pixels",
                "save_steps",
                "save_total_limit",
                "logging_steps",
            ),
            from_zero=("dataloader_num_workers", "weight_decay"),
            shares=("split_dataset_ratio", "warmup_ratio", "adam_beta2"),
            choices={"torch_dtype": DTYPES, "lr_scheduler_type": SCHEDULERS, "attn_implementation": KERNELS},
        )
        if self.split_dataset_ratio == 1:
            raise UserError(
                "sft: split_dataset_ratio is 1; no rows would be left to train on",
                code="settings.out-of-range",
                name="split_dataset_ratio",
                value=self.split_dataset_ratio,
            )
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(
                f"sft: max_steps is {self.max_steps}; it must be at least 1, or none for whole epochs",
                code="settings.out-of-range",
                name="max_steps",
                value=self.max_steps,
            )
        if self.deepspeed and self.deepspeed not in PRESETS and not Path(self.deepspeed).is_file():
            raise UserError(
                f"sft: deepspeed is {self.deepspeed!r}; it must be one of {', '.join(PRESETS)}, a DeepSpeed .json, or "
                "empty",
                code="settings.unknown-value",
                name="deepspeed",
                value=self.deepspeed,
                known=list(PRESETS),
            )

    @classmethod
    def paper(cls) -> Self:
        """The hyper-parameters of the authors' scripts for Qwen2.5-VL-7B on 4 GPUs: the defaults."""
        return cls()

    @classmethod
    def demo(cls, max_steps: int = 300) -> Self:
        """The tiny model from random weights on one CPU core, so everything is large but the model.

        Looking a word up again is learned all at once, somewhere between step 150 and 250; until then the verdict
        is a guess, whatever the loss says.
        """
        return cls(
            learning_rate=3e-3,
            num_train_epochs=1000,
            max_steps=max_steps,
            per_device_train_batch_size=16,
            max_length=512,
            weight_decay=0.0,
            adam_beta2=0.98,
            gradient_checkpointing=False,
            deepspeed="",
            torch_dtype="float32",
            attn_implementation="sdpa",
            max_pixels=112 * 112,
            split_dataset_ratio=0.0,
            save_steps=150,
            dataloader_num_workers=0,
        )


def swift_arguments(
    settings: SftSettings,
    model: Path,
    dataset: Path,
    output: Path,
    device: str = "cuda",
    tracking: Mode = "offline",
    run_name: str = "sft",
) -> list[str]:
    """The arguments of `swift sft`. `output`: folder of ms-swift's checkpoints and log; `tracking`: SwanLab's mode,
    which ms-swift calls "cloud" (online) and "local" (offline).

    DeepSpeed is left out on CPUs. No secret is ever among the arguments.
    """
    s = settings
    values: dict[str, object] = {
        "model": model,
        "model_type": "qwen2_5_vl",
        "template": "qwen2_5_vl",
        "external_plugins": PLUGIN,
        "callbacks": "save_when_asked",
        "use_hf": True,
        "check_model": False,
        "dataset": dataset,
        "strict": s.strict,
        "max_length": s.max_length,
        "split_dataset_ratio": s.split_dataset_ratio,
        "dataset_num_proc": 1,
        "dataloader_num_workers": s.dataloader_num_workers,
        "tuner_type": "full",
        "freeze_llm": False,
        "freeze_vit": s.freeze_vit,
        "freeze_aligner": s.freeze_aligner,
        "torch_dtype": s.torch_dtype,
        "bf16": s.torch_dtype == "bfloat16",
        "fp16": s.torch_dtype == "float16",
        "attn_impl": attention(s.attn_implementation, device),
        "gradient_checkpointing": s.gradient_checkpointing,
        "num_train_epochs": s.num_train_epochs,
        "max_steps": s.max_steps or -1,
        "per_device_train_batch_size": s.per_device_train_batch_size,
        "per_device_eval_batch_size": s.per_device_train_batch_size,
        "gradient_accumulation_steps": s.gradient_accumulation_steps,
        "learning_rate": s.learning_rate,
        "lr_scheduler_type": s.lr_scheduler_type,
        "warmup_ratio": s.warmup_ratio,
        "weight_decay": s.weight_decay,
        "adam_beta2": s.adam_beta2,
        "seed": s.seed,
        "data_seed": s.seed,
        "output_dir": output,
        "add_version": False,
        "save_strategy": "steps",
        "save_steps": s.save_steps,
        "save_total_limit": s.save_total_limit,
        "save_only_model": False,
        "logging_steps": s.logging_steps,
        "report_to": "none" if tracking == "disabled" else "swanlab",
        "swanlab_project": PROJECT,
        "swanlab_exp_name": run_name,
        "swanlab_mode": "cloud" if tracking == "online" else "local",
    }
    if s.split_dataset_ratio:
        values |= {"eval_strategy": "steps", "eval_steps": s.save_steps}
    if s.deepspeed and device != "cpu":
        values["deepspeed"] = s.deepspeed
    return [text for name, value in values.items() for text in (f"--{name}", _text(value))]


def environment(
    settings: SftSettings,
    output: Path,
    device: str = "cuda",
    given: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The variables that ms-swift reads, to be added to `given` (only OMP_NUM_THREADS and HF_HUB_OFFLINE keep their
    values from there)."""
    values = {
        **NO_TELEMETRY,
        "MAX_PIXELS": str(settings.max_pixels),
        "USE_HF": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1" if device == "cpu" else "8",
        "SWANLAB_LOG_DIR": str(output / "swanlog"),
        "SWANLAB_INTERACTIVE": "false",
        TRUST: str(int(settings.trust_remote_code)),
    }
    values |= {name: given[name] for name in _PASSED_ON if given.get(name)}
    return values | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


def command(arguments: list[str], device: str = "cuda", gpus: int = 1) -> list[str]:
    """The command of ms-swift: one process per GPU, with a rendezvous on the loopback address (`proxygrm.sft.launch`),
    also for one GPU, because DeepSpeed alone would listen at torch's default port."""
    if device == "cpu":
        return [sys.executable, "-m", "swift.cli.main", "sft", *arguments]
    launcher = [sys.executable, "-m", "proxygrm.sft.launch", "--nproc_per_node", str(gpus)]
    return [*launcher, "-m", "swift.cli.sft", *arguments]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
