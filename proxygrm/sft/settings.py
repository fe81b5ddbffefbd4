"""Every setting of an SFT stage, under ms-swift's own names (4.6); `arguments` writes them out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, Self

from proxygrm.core.bounds import check_bounds
from proxygrm.core.checkpoints.attention import KERNELS
from proxygrm.core.checkpoints.best import BEST
from proxygrm.core.errors import UserError
from proxygrm.core.settings import AFTERWARDS, did_you_mean
from proxygrm.scalar.settings import RewardModelSettings
from proxygrm.sft.installed import check_argument, registered
from proxygrm.sft.reserved import refuse_reserved

COMMANDS = ("sft", "rlhf")
RLHF_TYPES = ("dpo", "orpo", "simpo", "kto", "cpo", "rm")
"""Those that learn from rows alone; ms-swift's ppo, grpo and gkd generate, which is the work of the RL stage."""
TUNERS = ("full", "lora")
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


@dataclass(frozen=True)
class SftSettings:
    """Lengths are tokens; the batch of a step is per_device_train_batch_size x gradient_accumulation_steps x devices
    rows."""

    command: str = "sft"
    """Of ms-swift: sft (one response per row), or rlhf (pairs of responses, or a label; see rlhf_type)."""
    rlhf_type: str = ""
    """With command rlhf: dpo, orpo, simpo, kto, cpo, or rm (a scalar reward model)."""
    reward_model: RewardModelSettings = field(default_factory=RewardModelSettings)
    """With rlhf_type rm: the head, and what the loss has besides the Bradley-Terry term."""
    step_judge: bool = False
    """What it makes judges steps by 1 and -1, and is marked as such (`step_judge.json`): as a judge of pairs it is then
    refused."""
    model_type: str = "qwen2_5_vl"
    """As ms-swift calls the kind of model; empty for the name in config.json, and where ms-swift has none like it, for
    what it makes of the checkpoint."""
    template: str = ""
    """ms-swift's chat template; empty for the one that is named as the model_type."""
    tuner_type: str = "full"
    """full makes `model`; lora makes `adapter`, which the merge stage adds to the start checkpoint."""
    lora_rank: int = 8
    lora_alpha: float = 32.0
    target_modules: tuple[str, ...] = ("all-linear",)
    """Modules that LoRA is added to. all-linear leaves out what freeze_vit and freeze_aligner freeze."""
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
    """Share of the rows held out for the evaluation loss; 0 for none. Not used with rows of their own for it."""
    checkpoint: Literal["last", "best"] = field(default="last", metadata=AFTERWARDS)
    """The model that the chain goes on with; best: that of the lowest evaluation loss. Both are kept; changing this
    trains nothing again."""
    early_stop: int = 0
    """Stop after this many evaluations in a row without a lower loss; 0: never."""
    save_steps: int = 100
    """Each checkpoint is evaluated."""
    save_total_limit: int = 2
    logging_steps: int = 5
    dataloader_num_workers: int = 4
    strict: bool = True
    """Stop at a row that is too long or whose image cannot be read; otherwise ms-swift trains another row twice."""
    seed: int = 42
    trust_remote_code: bool = False
    """Run Python code of the checkpoint; otherwise a checkpoint with code is refused."""
    extra_args: tuple[str, ...] = ()
    """Further arguments of ms-swift as NAME=VALUE; a name given again adds a value to a list. They are checked against
    the installed ms-swift."""

    def __post_init__(self) -> None:
        check_bounds(
            "sft",
            self,
            positive=("num_train_epochs", "learning_rate", "lora_alpha"),
            from_one=(
                "per_device_train_batch_size",
                "gradient_accumulation_steps",
                "max_length",
                "max_pixels",
                "save_steps",
                "save_total_limit",
                "logging_steps",
                "lora_rank",
            ),
            from_zero=("dataloader_num_workers", "weight_decay", "early_stop"),
            shares=("split_dataset_ratio", "warmup_ratio", "adam_beta2"),
            choices={
                "command": COMMANDS,
                "tuner_type": TUNERS,
                "torch_dtype": DTYPES,
                "lr_scheduler_type": SCHEDULERS,
                "attn_implementation": KERNELS,
                "rlhf_type": RLHF_TYPES if self.command == "rlhf" else ("",),
            },
        )
        if self.rlhf_type != "rm" and self.reward_model != RewardModelSettings():
            raise UserError(
                f"sft: reward_model is {self.reward_model}, which only rlhf_type rm has; leave it out",
                code="settings.contradiction",
                name="reward_model",
                rlhf_type=self.rlhf_type,
            )
        if self.step_judge and self.rlhf_type == "rm":
            raise UserError(
                "sft: step_judge is of models that write verdicts, and rlhf_type rm makes a scalar one; leave one out",
                code="settings.contradiction", name="step_judge", rlhf_type=self.rlhf_type,
            )  # fmt: skip
        for name in self.extra:
            refuse_reserved(name, frozenset(entry.name for entry in fields(SftSettings)))
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

        if self.checkpoint == "best" and self.save_total_limit < 2:
            raise UserError(
                "sft: checkpoint=best keeps two checkpoints, the best and the last; set save_total_limit to 2 or more",
                code="settings.contradiction",
                setting="checkpoint=best",
            )

    def check_evaluated(self, validation: bool) -> None:
        """validation: whether there are rows of their own. UserError where a setting needs an evaluation and there is
        none."""
        if self.evaluates(validation):
            return
        if setting := "checkpoint=best" if self.checkpoint == "best" else self.early_stop and "early_stop":
            raise UserError(
                f"sft: {setting} needs an evaluation; set split_dataset_ratio", code="settings.contradiction",
                setting=setting,
            )  # fmt: skip

    def evaluates(self, validation: bool) -> bool:
        """validation: whether there are rows of their own."""
        return validation or self.split_dataset_ratio > 0

    @property
    def chosen(self) -> str:
        """The folder that the chain goes on with."""
        return BEST if self.checkpoint == "best" else self.makes

    @property
    def makes(self) -> str:
        """The folder that a training leaves in the stage's own."""
        return "adapter" if self.tuner_type == "lora" else "model"

    @property
    def extra(self) -> dict[str, list[str]]:
        """`extra_args`, by name. Raises UserError: sft.malformed-argument."""
        values: dict[str, list[str]] = {}
        for argument in self.extra_args:
            name, sign, value = argument.partition("=")
            name = name.strip().removeprefix("--").replace("-", "_")
            if not sign or not name.isidentifier() or value.startswith("--"):
                raise UserError(
                    f"sft: extra_args has {argument!r}; expected NAME=VALUE, for example lora_dropout=0.1",
                    code="sft.malformed-argument",
                    value=argument,
                )
            values.setdefault(name, []).append(value.strip())
        return values

    def check_installed(self) -> None:
        """Against the ms-swift of this machine; nothing where there is none. Raises UserError: sft.unknown-argument,
        sft.wrong-value, sft.repeated-argument, settings.unknown-value."""
        extra = self.extra
        for name, value in (("model_type", self.model_type), ("template", self.template or self.model_type)):
            known = registered(name)
            if value and known and value not in known and "external_plugins" not in extra:
                raise UserError(
                    f"sft: ms-swift has no {name} {value!r}; {did_you_mean(value, known, 'it lists them in its docs')}",
                    code="settings.unknown-value",
                    name=name,
                    value=value,
                )
        for name, values in extra.items():
            for value in values:
                argument = check_argument(self.command, name, value, "sft: extra_args")
                if argument and len(values) > 1 and not argument.is_list:
                    raise UserError(
                        f"sft: extra_args has {name} {len(values)} times; it takes one value",
                        code="sft.repeated-argument",
                        name=name,
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
