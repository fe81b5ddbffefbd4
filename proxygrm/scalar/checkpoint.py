"""Loads a scalar reward model by transformers: the backbone, the reward head, the processor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from proxygrm.core.errors import UserError
from proxygrm.scalar.head import RewardHead
from proxygrm.scalar.layout import PREFIX, Layout, layout_of

_IMAGE_TOKEN = "<|image_pad|>"  # noqa: S105


@dataclass(frozen=True)
class Parts:
    backbone: Any
    head: RewardHead
    processor: Any
    tokenizer: Any
    pad: int
    image_token: str
    image_token_id: int
    length_normalisation: bool


def load_parts(model: Path, device: str, max_pixels: int = 0) -> Parts:
    """In float32 on CPUs, else in the checkpoint's data type; nothing of its code is run.

    Raises UserError: checkpoint.incomplete, and those of `layout_of`.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    layout = layout_of(model)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it reports the head, which it does not know
    try:
        loaded = AutoConfig.from_pretrained(model)
        dtype = torch.float32 if device == "cpu" else loaded.dtype or torch.bfloat16
        # Not AutoModel: it does not find the weights under the names that ms-swift saves them by.
        generative, report = AutoModelForImageTextToText.from_pretrained(
            model, config=loaded, dtype=dtype, attn_implementation="sdpa", output_loading_info=True
        )
        processor = AutoProcessor.from_pretrained(model)
    finally:
        logging.set_verbosity(verbosity)
    if missing := sorted(name for name in report["missing_keys"] if not name.startswith("lm_head.")):
        raise UserError(
            f"{model} lacks {len(missing)} weights of its backbone, the first {missing[0]}; copy it again",
            code="checkpoint.incomplete",
            path=model,
            names=missing,
        )
    if max_pixels:
        processor.image_processor.size["longest_edge"] = max_pixels
    tokenizer = processor.tokenizer
    return Parts(
        generative.model.eval().to(device),
        _head(model, layout).eval().to(device),
        processor,
        tokenizer,
        tokenizer.pad_token_id or 0,
        _IMAGE_TOKEN,
        tokenizer.convert_tokens_to_ids(_IMAGE_TOKEN),
        layout.length_normalisation,
    )


def _head(model: Path, layout: Layout) -> RewardHead:
    """In float32."""
    from safetensors import safe_open

    head = RewardHead(layout.hidden_size, layout.layers, layout.activation)
    weights = {"out_proj.bias": torch.zeros(1)}
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if name.startswith(PREFIX):
                    own = name.removeprefix(PREFIX)
                    weights[f"out_proj.{own}" if layout.of_ms_swift else own] = tensors.get_tensor(name).float()
    head.load_state_dict(weights)
    return head
