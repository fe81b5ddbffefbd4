"""The limits of a checkpoint, read from its config.json alone: no torch, no vLLM, no weights.

vLLM reports the same problems, but minutes into a job and pages into a log. A checkpoint without a config.json has no
limits here: `check_checkpoint` refuses it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from proxygrm.core.checkpoints.scalar import refuse_scalar
from proxygrm.core.errors import UserError

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
_CONTEXT_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
_SCALED_ALREADY = ("su", "longrope", "llama3")
"""Kinds of RoPE whose config has the scaled length."""
_DTYPES = frozenset({"auto", "float64", "float32", "float", "float16", "half", "bfloat16"})
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
_TEMPLATE_HOLDERS = ("tokenizer_config.json", "processor_config.json")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_ALLOW_LONGER = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"


def context_allowed(model: Path) -> int | None:
    """The most tokens, prompt and answer together, that vLLM accepts for the checkpoint; None: no limit."""
    text = _text_config(_config(model))
    known = [text[key] for key in _CONTEXT_KEYS if _is_count(text.get(key))]
    if not known:
        return None
    longest, factor = min(known), 1.0
    if "gemma3" in str(text.get("model_type", "")):  # its config has the scaled length, too
        return longest
    for rope in _ropes(text):
        kind = rope.get("rope_type", rope.get("type"))
        if kind in _SCALED_ALREADY:
            continue
        if isinstance(rope.get("factor"), int | float):
            factor = rope["factor"]
        if kind == "yarn" and _is_count(rope.get("original_max_position_embeddings")):
            longest = rope["original_max_position_embeddings"]
    return int(longest * factor)


def context_length(model: Path, requested: int, default: int, setting: str = "max_model_len") -> int:
    """Tokens to serve. requested: the user's value; 0 for none, then it is the checkpoint's limit, at most `default`.

    Raises UserError (checkpoint.context-too-short) for more than the checkpoint allows; `setting`: its name.
    """
    limit = context_allowed(model)
    if not requested:
        return min(default, limit or default)
    if limit and requested > limit and os.environ.get(_ALLOW_LONGER, "").lower() not in ("1", "true"):
        raise UserError(
            f"{setting} is {requested}, but {model} allows {limit} tokens, prompt and answer together (its "
            f"config.json); give at most {limit}",
            code="checkpoint.context-too-short",
            name=setting,
            value=requested,
            limit=limit,
            path=model,
        )
    return requested


def check_servable(model: Path, tensor_parallel_size: int = 1, setting: str = "tensor_parallel_size") -> None:
    """Raises UserError for a checkpoint that vLLM cannot start or chat with, as far as its small files show:
    checkpoint.scalar, checkpoint.bad-dtype, checkpoint.indivisible-heads (by `tensor_parallel_size`),
    checkpoint.no-chat-template.

    setting: the user's name of tensor_parallel_size."""
    config = _config(model)
    if not config:
        return
    refuse_scalar(model, "vLLM")
    text = _text_config(config)
    for part in (config, text):
        dtype = part.get("dtype", part.get("torch_dtype"))
        name = str(dtype).removeprefix("torch.")
        if dtype is not None and name not in _DTYPES and not name.startswith("float8"):
            raise UserError(
                f"{model} cannot be served: its config.json has the dtype {dtype!r}; bfloat16 is usual",
                code="checkpoint.bad-dtype",
                path=model,
                value=str(dtype),
            )
    _check_parallel(model, config, text, tensor_parallel_size, setting)
    if (model / _TEMPLATE_HOLDERS[0]).is_file() and not _has_chat_template(model):
        raise UserError(
            f"{model} cannot chat: it has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); take an instruction-tuned checkpoint, or copy the file from one",
            code="checkpoint.no-chat-template",
            path=model,
        )


def check_sees(model: Path) -> None:
    """Raises UserError (checkpoint.sees-no-images) for a language model without eyes: neither its config.json nor its
    other small files speak of images."""
    config = _config(model)
    about_images = any(word in key for key in config for word in ("vision", "visual", "image", "img", "mm_"))
    if config and not about_images and not any((model / name).is_file() for name in _PROCESSORS):
        raise UserError(
            f"{model} sees no images (its config.json describes a language model), and these pairs have some; give a "
            "vision-language model",
            code="checkpoint.sees-no-images",
            path=model,
        )


def _has_chat_template(model: Path) -> bool:
    if any((model / name).exists() for name in _TEMPLATES):
        return True
    return any(_json(model / name).get("chat_template") for name in _TEMPLATE_HOLDERS)


def _check_parallel(
    model: Path, config: Mapping[str, Any], text: Mapping[str, Any], tensor_parallel_size: int, setting: str
) -> None:
    heads, kv_heads = text.get("num_attention_heads"), text.get("num_key_value_heads")
    vision = config.get("vision_config")
    vision_heads = vision.get("num_heads", vision.get("num_attention_heads")) if isinstance(vision, dict) else None
    for count, what in ((heads, "attention heads"), (vision_heads, "attention heads of the vision tower")):
        if _is_count(count) and count % tensor_parallel_size:
            divisors = [number for number in range(1, tensor_parallel_size) if not count % number]
            raise UserError(
                f"{setting} is {tensor_parallel_size}, but {model} has {count} {what}, which do not divide by it; "
                f"give {' or '.join(map(str, divisors[-3:]))}",
                code="checkpoint.indivisible-heads",
                name=setting,
                value=tensor_parallel_size,
                heads=count,
                path=model,
            )
    if _is_count(kv_heads) and kv_heads % tensor_parallel_size and tensor_parallel_size % kv_heads:
        raise UserError(
            f"{setting} is {tensor_parallel_size}, but {model} has {kv_heads} key and value heads: "
            f"give a divisor or a multiple of {kv_heads}",
            code="checkpoint.indivisible-heads",
            name=setting,
            value=tensor_parallel_size,
            heads=kv_heads,
            path=model,
        )


def _config(model: Path) -> dict[str, Any]:
    return _json(Path(model) / "config.json")


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    return next((config[name] for name in _TEXT_CONFIGS if isinstance(config.get(name), dict)), config)


def _ropes(text: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The RoPE settings: one record, or one per kind of layer."""
    ropes = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(ropes, dict):
        return
    inner = [value for value in ropes.values() if isinstance(value, dict)]
    yield from inner if inner and len(inner) == len(ropes) else [ropes]


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _json(path: Path) -> dict[str, Any]:
    """{} for a missing file, and for a broken one, which `check_checkpoint` reports."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
