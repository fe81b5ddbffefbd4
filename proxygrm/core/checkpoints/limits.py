"""What a checkpoint allows, read from its config.json alone: no torch, no vLLM, no weights.

vLLM finds the same faults, but minutes into a job and pages into a log. A checkpoint without a config.json has no
limits here: `checkpoints.is_hf_checkpoint` is what refuses it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from proxygrm.core.errors import UserError

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
_CONTEXT_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
_SCALED_ALREADY = ("su", "longrope", "llama3")
"""Kinds of RoPE whose config gives the scaled length."""
_DTYPES = frozenset({"auto", "float64", "float32", "float", "float16", "half", "bfloat16"})
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
_TEMPLATE_HOLDERS = ("tokenizer_config.json", "processor_config.json")
_LONGER_ANYWAY = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"


def context_allowed(model: Path) -> int | None:
    """The longest prompt and answer together, in tokens, that vLLM takes for the checkpoint; None: it sets no limit."""
    text = _text_config(_config(model))
    known = [text[key] for key in _CONTEXT_KEYS if _is_count(text.get(key))]
    if not known:
        return None
    longest, factor = min(known), 1.0
    if "gemma3" in str(text.get("model_type", "")):  # its config gives the scaled length, too
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


def context_length(model: Path, asked: int, most: int, setting: str = "max_model_len") -> int:
    """Tokens to serve. asked: what the user said, 0 for nothing: then it is what the checkpoint allows, at most `most`.

    UserError for more than the checkpoint allows; `setting` is how the user says it.
    """
    own = context_allowed(model)
    if not asked:
        return min(most, own or most)
    if own and asked > own and os.environ.get(_LONGER_ANYWAY, "").lower() not in ("1", "true"):
        raise UserError(
            f"{setting} is {asked}, but {model} allows {own} tokens, prompt and answer together (its config.json); "
            f"give at most {own}"
        )
    return asked


def check_servable(model: Path, tensor_parallel: int = 1, setting: str = "tensor_parallel") -> None:
    """UserError for a checkpoint that vLLM would not start with, or could not chat with, as far as its small files say:
    a dtype that is none, heads that do not divide by `tensor_parallel`, no chat template.

    setting: how the user says tensor_parallel."""
    config = _config(model)
    if not config:
        return
    text = _text_config(config)
    for part in (config, text):
        dtype = part.get("dtype", part.get("torch_dtype"))
        name = str(dtype).removeprefix("torch.")
        if dtype is not None and name not in _DTYPES and not name.startswith("float8"):
            raise UserError(f"{model} cannot be served: its config.json has the dtype {dtype!r}, bfloat16 is usual")
    _check_parallel(model, config, text, tensor_parallel, setting)
    if (model / _TEMPLATE_HOLDERS[0]).is_file() and not _has_chat_template(model):
        raise UserError(
            f"{model} cannot be asked anything: it has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); take an instruction-tuned checkpoint, or copy the file from one"
        )


def _has_chat_template(model: Path) -> bool:
    if any((model / name).exists() for name in _TEMPLATES):
        return True
    return any(_json(model / name).get("chat_template") for name in _TEMPLATE_HOLDERS)


def _check_parallel(
    model: Path, config: Mapping[str, Any], text: Mapping[str, Any], tensor_parallel: int, setting: str
) -> None:
    heads, shared = text.get("num_attention_heads"), text.get("num_key_value_heads")
    vision = config.get("vision_config")
    seeing = vision.get("num_heads", vision.get("num_attention_heads")) if isinstance(vision, dict) else None
    for count, what in ((heads, "attention heads"), (seeing, "attention heads of the vision tower")):
        if _is_count(count) and count % tensor_parallel:
            able = [number for number in range(1, tensor_parallel) if not count % number]
            raise UserError(
                f"{setting} is {tensor_parallel}, but {model} has {count} {what}, which do not divide by it; "
                f"give {' or '.join(map(str, able[-3:]))}"
            )
    if _is_count(shared) and shared % tensor_parallel and tensor_parallel % shared:
        raise UserError(
            f"{setting} is {tensor_parallel}, but {model} has {shared} key and value heads: "
            f"give a divisor or a multiple of {shared}"
        )


def _config(model: Path) -> dict[str, Any]:
    return _json(Path(model) / "config.json")


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    return next((config[name] for name in _TEXT_CONFIGS if isinstance(config.get(name), dict)), config)


def _ropes(text: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The RoPE settings: one record, or one for each kind of layer."""
    found = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(found, dict):
        return
    inner = [value for value in found.values() if isinstance(value, dict)]
    yield from inner if inner and len(inner) == len(found) else [found]


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _json(path: Path) -> dict[str, Any]:
    """{} for a file that is not there; a broken one is `is_hf_checkpoint`'s to report."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
