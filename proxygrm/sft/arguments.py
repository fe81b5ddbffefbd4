"""The one place where the command line and the environment of ms-swift are written (4.6 names)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.attention import attention
from proxygrm.core.runtime.telemetry import NO_TELEMETRY
from proxygrm.core.runtime.tracking import PROJECT, Mode
from proxygrm.scalar.settings import PLUGIN as SCALAR_PLUGIN
from proxygrm.scalar.settings import VARIABLE as REWARD_MODEL
from proxygrm.sft.nodes import Nodes
from proxygrm.sft.reserved import APPENDED
from proxygrm.sft.settings import SftSettings

TRUST = "PROXYGRM_TRUST_REMOTE_CODE"
"""Read by the plugin: ms-swift has no option for it, and trusts every checkpoint."""
PLUGIN = Path(__file__).with_name("plugin.py")
OWN_PLUGINS = (PLUGIN, SCALAR_PLUGIN)
_COMPARED = ("dpo", "kto")
"""Compare with a frozen copy of the start checkpoint. By default that is `model`, which is another one on resuming."""
ONE_NODE = Nodes()
_PASSED_ON = ("HF_HUB_OFFLINE", "OMP_NUM_THREADS")


def swift_arguments(
    settings: SftSettings,
    model: Path,
    dataset: Path,
    output: Path,
    device: str = "cuda",
    tracking: Mode = "offline",
    run_name: str = "sft",
    validation: Path | None = None,
) -> list[str]:
    """The arguments of `swift sft` or `swift rlhf`. `output`: folder of ms-swift's checkpoints and log; `tracking`:
    SwanLab's mode, which ms-swift calls "cloud" (online) and "local" (offline). `validation`: rows for the evaluation
    loss, instead of a share of the others.

    DeepSpeed is left out on CPUs. No secret is ever among the arguments.
    """
    s = settings
    values: dict[str, Any] = {
        "model": model,
        "external_plugins": plugins(settings),
        "callbacks": ["save_when_asked"],
        "use_hf": True,
        "check_model": False,
        "dataset": dataset,
        "strict": s.strict,
        "max_length": s.max_length,
        "split_dataset_ratio": 0.0 if validation else s.split_dataset_ratio,
        "dataset_num_proc": 1,
        "dataloader_num_workers": s.dataloader_num_workers,
        "tuner_type": s.tuner_type,
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
    if validation:
        values["val_dataset"] = validation
    if validation or s.split_dataset_ratio:
        values |= {"eval_strategy": "steps", "eval_steps": s.save_steps}
        if s.early_stop:
            values["early_stop_interval"] = s.early_stop
    if s.deepspeed and device != "cpu":
        values["deepspeed"] = s.deepspeed
    kinds = {"model_type": s.model_type, "template": s.template or s.model_type, "rlhf_type": s.rlhf_type}
    values |= {name: kind for name, kind in kinds.items() if kind}
    if s.tuner_type == "lora":
        values |= {"lora_rank": s.lora_rank, "lora_alpha": s.lora_alpha, "target_modules": s.target_modules}
    elif s.rlhf_type in _COMPARED:
        values["ref_model"] = model
    if s.rlhf_type == "rm" and s.reward_model.center_rewards_coefficient:
        values["center_rewards_coefficient"] = s.reward_model.center_rewards_coefficient
    for name, extra in s.extra.items():
        values[name] = [*values[name], *extra] if name in APPENDED else extra
    return words(values)


def plugins(settings: SftSettings) -> list[Path]:
    """The suite's files that ms-swift loads."""
    return [PLUGIN, SCALAR_PLUGIN] if settings.rlhf_type == "rm" else [PLUGIN]


def words(values: Mapping[str, object]) -> list[str]:
    """An argument list; a tuple or list becomes several words."""
    return [text for name, value in values.items() for text in (f"--{name}", *_texts(value))]


def by_name(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Values of an argument list by "--name"."""
    values: dict[str, list[str]] = {}
    for text in arguments:
        if text.startswith("--"):
            values[text] = []
        else:
            values[next(reversed(values))].append(text)
    return values


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
    if settings.rlhf_type == "rm":
        values[REWARD_MODEL] = settings.reward_model.text
    values |= {name: given[name] for name in _PASSED_ON if given.get(name)}
    return values | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


def command(
    arguments: list[str], device: str = "cuda", gpus: int = 1, name: str = "sft", nodes: Nodes = ONE_NODE
) -> list[str]:
    """The command `name` of ms-swift on this node: one process per GPU, or one on CPUs, with a rendezvous of its own
    (`proxygrm.sft.launch`), also for one GPU, because DeepSpeed alone would listen at torch's default port."""
    if device == "cpu" and nodes.count == 1:
        return [sys.executable, "-m", "proxygrm.sft.here", name, *arguments]
    launcher = [sys.executable, "-m", "proxygrm.sft.launch", *nodes.words]
    launcher += ["--nproc_per_node", str(1 if device == "cpu" else gpus)]
    return [*launcher, "-m", f"swift.cli.{name}", *arguments]


def _texts(value: object) -> list[str]:
    each = value if isinstance(value, list | tuple) else [value]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in each]
