"""Whether two checkpoints differ in the values of their weights only, so that one engine can run both in turn."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.best import NOTE
from proxygrm.core.checkpoints.parameters import header_of

_WITHOUT_EFFECT = frozenset({
    "attn_implementation", "is_local", "local_files_only", "transformers_version", "use_cache", "_name_or_path",
})  # fmt: skip
"""Entries that trainers add or change when they save, and an engine does not read."""
_TOKENS = frozenset({"bos_token_id", "eos_token_id", "pad_token_id"})
"""An engine takes them from the tokenizer and from generation_config.json, which are compared."""
_NOT_OF_THE_MODEL = frozenset({"model.safetensors.index.json", NOTE})
_TEXTS = ("*.json", "*.jinja", "*.txt", "*.model")


def likeness(folder: Path) -> str | None:
    """Equal for checkpoints that have the same configuration, tokenizer, processor and templates, and weights of the
    same names, shapes and types. None where that is not known: quantized or other than safetensors, and own code.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(path for pattern in _TEXTS for path in folder.glob(pattern)):
            if path.name in _NOT_OF_THE_MODEL:
                continue
            content = path.read_bytes()
            if path.name.endswith("config.json"):
                values = json.loads(content)
                if "quantization_config" in values:
                    return None
                content = json.dumps(_with_effect(values, path.name), sort_keys=True).encode()
            digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
        tensors = {
            name: (entry["dtype"], entry["shape"])
            for file in folder.glob("*.safetensors")
            for name, entry in header_of(file).items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error):
        return None
    if not tensors or any(folder.glob("*.py")):
        return None
    digest.update(json.dumps(tensors, sort_keys=True).encode())
    return digest.hexdigest()


def _with_effect(values: dict[str, Any], file: str) -> dict[str, Any]:
    """Without what has no effect, and in config.json without what one of its levels repeats of another."""
    kept = {key: value for key, value in values.items() if key not in _WITHOUT_EFFECT}
    if file != "config.json":
        return kept
    text = kept.get("text_config")
    repeated = (
        {"hidden_size"} if isinstance(text, dict) and text.get("hidden_size") == kept.get("hidden_size") else set()
    )
    outer = {key: value for key, value in kept.items() if key not in _TOKENS | repeated}
    return {key: _part(value, kept.get("dtype")) if isinstance(value, dict) else value for key, value in outer.items()}


def _part(values: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Of one part of the model; dtype: that of the whole."""
    return {
        key: value
        for key, value in values.items()
        if key not in _WITHOUT_EFFECT and not (key == "dtype" and value == dtype)
    }
