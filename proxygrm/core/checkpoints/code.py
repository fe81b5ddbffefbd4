"""Checkpoints that would run code of their own when they are loaded. Looks at small files only; imports nothing of it.

transformers, vLLM, verl and ms-swift import the Python files that `auto_map` names, if they are told to trust them, and
torch unpickles weights that are not safetensors. Nothing else in a folder runs: chat templates are rendered in Jinja's
sandbox, tokenizers and weights are data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.check import is_hf_checkpoint, reading_checkpoint
from proxygrm.core.errors import UserError

TRUST = "--set STAGE.trust_remote_code=true in a chain, --trust-remote-code elsewhere"
_KEYS = ("auto_map", "custom_generate", "custom_pipelines")
_NOT_RUN = frozenset({"zero_to_fp32.py"})
"""DeepSpeed leaves it in every checkpoint, for people; no library imports it."""
_PICKLES = ("*.pkl", "*.pickle", "*.joblib", "*.ckpt")
_PICKLED_WEIGHTS = {"pytorch_model*.bin": "model*.safetensors", "adapter_model.bin": "adapter_model.safetensors"}
"""What a library falls back to, where the safetensors are not there."""


@dataclass(frozen=True)
class LoadableCheckpoint:
    """A check of a checkpoint: whole, and without code unless it is `trusted`. option: what would say so."""

    option: str
    trusted: bool = False

    def __call__(self, path: Path) -> None:
        is_hf_checkpoint(path)
        refuse_code(path, self.trusted, self.option)


def refuse_code(path: Path, trusted: bool = False, option: str = TRUST) -> None:
    """UserError that names the first file of the checkpoint that is code; not for one that is trusted."""
    if trusted or not path.is_dir():
        return
    with reading_checkpoint(path):
        found = next(_code(path), None)
    if found:
        raise UserError(
            f"the checkpoint at {path} carries code that would run as you: {found}; take a copy without it, or, if you "
            f"trust its authors, {option}"
        )


def _code(path: Path) -> Iterator[str]:
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    for file in files:
        if file.suffix == ".json" and "config" in file.name:
            for key, value in _named(_content(file)):
                yield f"{file.name} has {key} ({_short(value)})"
    for file in files:
        if file.suffix in (".py", ".pyc", ".so") and file.name not in _NOT_RUN:
            yield file.name
        if file.is_dir() and any(each.suffix in (".py", ".pyc", ".so") for each in file.iterdir()):
            yield f"{file.name}/ with Python files"
        if any(file.match(pattern) for pattern in _PICKLES):
            yield f"{file.name} is a pickle"
        for pickled, instead in _PICKLED_WEIGHTS.items():
            if file.match(pickled) and not any(each.match(instead) for each in files):
                yield f"{file.name} is a pickle, and there is no {instead}"


def _content(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # a library would fail on it, too
        return None


def _named(value: Any) -> Iterator[tuple[str, Any]]:
    """Every non-empty entry, at any depth, that makes a library import a file."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield from ((key, each[key]) for key in _KEYS if each.get(key))
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
