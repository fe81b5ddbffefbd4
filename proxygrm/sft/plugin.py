"""Loaded by ms-swift (`--external_plugins`): vision token ids come from the checkpoint's own tokenizer.

ms-swift's Qwen2-VL template carries the ids of the released models as constants. A tokenizer with other ids (the
tiny model's) then trains without its pictures, and nothing says so. For released checkpoints this changes nothing.
"""

from __future__ import annotations

from typing import Any

from swift.template.templates.qwen import Qwen2VLTemplate

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
