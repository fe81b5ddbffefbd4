"""Loaded by ms-swift (`--external_plugins`): a save when the job asks for one, the tokenizer's own vision tokens, and
no code out of a checkpoint unless the user trusts it (ms-swift always does, and has no argument against it).

ms-swift's Qwen2-VL template carries the ids of the released models as constants. A tokenizer with other ids (the
tiny model's) then trains without its pictures, and nothing says so. For released checkpoints this changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from swift.callbacks import TrainerCallback, callbacks_map
from swift.model.register import ModelLoader
from swift.template.templates.qwen import Qwen2VLTemplate
from transformers import dynamic_module_utils

from proxygrm.core.checkpoints.code import TRUST
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.save_now import SaveNow
from proxygrm.sft.arguments import TRUST as VARIABLE

_set_processor = Qwen2VLTemplate.init_processor


def _with_own_ids(template: Any, processor: Any) -> None:
    _set_processor(template, processor)
    if processor is None:
        return
    tokenizer = getattr(processor, "tokenizer", processor)
    known = tokenizer.get_vocab()
    for attribute, token in (("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>")):
        if token not in known:
            raise ValueError(f"the tokenizer has no {token}: this is no Qwen2-VL checkpoint")
        setattr(template, attribute, known[token])


Qwen2VLTemplate.init_processor = _with_own_ids


class SaveWhenAsked(TrainerCallback):
    """Saves and ends at the end of the step in which the job asks for it, on all ranks in the same one."""

    def __init__(self, args: Any, trainer: Any) -> None:
        super().__init__(args, trainer)
        self.save_now = SaveNow(Path(args.output_dir).parent)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        asked = torch.tensor([state.is_world_process_zero and self.save_now.asked()], device=args.device)
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(asked, 0)
        if asked:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.save_now.asked():
            self.save_now.answer(f"A checkpoint of step {state.global_step} is there to go on from")


callbacks_map["save_when_asked"] = SaveWhenAsked


def refuse_to_import(class_name: str, module_path: Any, **how: Any) -> Any:
    """In the place of the one function of transformers that imports a file out of a checkpoint."""
    raise UserError(f"{module_path} comes with the checkpoint and is not run; if you trust it, {TRUST}")


if not int(os.environ.get(VARIABLE, "0")):
    ModelLoader.default_trust_remote_code = False
    dynamic_module_utils.get_class_in_module = refuse_to_import
