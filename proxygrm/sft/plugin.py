"""Loaded by ms-swift (`--external_plugins`): saves when the job requests it, tracks in one process, takes vision tokens
from the tokenizer, and refuses code in a checkpoint unless the user trusts it (ms-swift always does, and has no option
for it).

ms-swift's Qwen2-VL template has the token ids of the released models as constants. With another tokenizer (the tiny
model's) it would silently train without the images. For released checkpoints this changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import transformers
from swift.arguments.sft_args import SwanlabArguments
from swift.callbacks import TrainerCallback, callbacks_map
from swift.model.register import ModelLoader
from swift.template.templates.qwen import Qwen2VLTemplate
from transformers import dynamic_module_utils
from transformers.integrations import INTEGRATION_TO_CALLBACK

from proxygrm.core.checkpoints.code import TRUST
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.save_now import SaveNow
from proxygrm.sft.arguments import TRUST as VARIABLE

_init_processor = Qwen2VLTemplate.init_processor


def _init_processor_with_token_ids(template: Any, processor: Any) -> None:
    _init_processor(template, processor)
    if processor is None:
        return
    tokenizer = getattr(processor, "tokenizer", processor)
    vocabulary = tokenizer.get_vocab()
    for attribute, token in (("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>")):
        if token not in vocabulary:
            raise ValueError(f"the tokenizer has no {token}: this is not a Qwen2-VL checkpoint")
        setattr(template, attribute, vocabulary[token])


Qwen2VLTemplate.init_processor = _init_processor_with_token_ids


class SaveOnRequest(TrainerCallback):
    """Saves and stops at the end of the step in which the job requests it, the same step on all ranks."""

    def __init__(self, args: Any, trainer: Any) -> None:
        super().__init__(args, trainer)
        self.save_now = SaveNow(Path(args.output_dir).parent)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        requested = torch.tensor([state.is_world_process_zero and self.save_now.is_requested()], device=args.device)
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(requested, 0)
        if requested:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.save_now.is_requested():
            self.save_now.answer(f"The run will resume from a checkpoint of step {state.global_step}")


callbacks_map["save_when_asked"] = SaveOnRequest


def no_tracking(arguments: Any) -> None:
    """Replaces the method that makes SwanLab's callback, which begins a run in every process."""
    INTEGRATION_TO_CALLBACK["swanlab"] = transformers.TrainerCallback


if os.environ.get("RANK", "0") != "0":
    SwanlabArguments._init_swanlab = no_tracking


def refuse_to_import(class_name: str, module_path: Any, **how: Any) -> Any:
    """Replaces the one function of transformers that imports a file of a checkpoint."""
    raise UserError(
        f"{module_path} comes with the checkpoint and is not run; if you trust it, {TRUST}",
        code="checkpoint.code",
        path=str(module_path),
    )


if not int(os.environ.get(VARIABLE, "0")):
    ModelLoader.default_trust_remote_code = False
    dynamic_module_utils.get_class_in_module = refuse_to_import
