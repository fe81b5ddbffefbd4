"""Finds code in a checkpoint that would run when it is loaded. Reads small files only; imports nothing of them.

transformers, vLLM, verl and ms-swift import the Python files that `auto_map` names, with `trust_remote_code`, and torch
unpickles weights that are not safetensors. Nothing else in a folder runs: chat templates are rendered in Jinja's
sandbox, tokenizers and weights are data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.check import check_checkpoint, reading_checkpoint
from proxygrm.core.errors import UserError

TRUST = "--set STAGE.trust_remote_code=true in a chain, --trust-remote-code elsewhere"
_KEYS = ("auto_map", "custom_generate", "custom_pipelines")
_NOT_RUN = frozenset({"zero_to_fp32.py"})
"""DeepSpeed writes it into every checkpoint, for users; no library imports it."""
_PICKLES = ("*.pkl", "*.pickle", "*.joblib", "*.ckpt")
_PICKLED_WEIGHTS = {"pytorch_model*.bin": "model*.safetensors", "adapter_model.bin": "adapter_model.safetensors"}
"""Pickled weights, and the safetensors that libraries prefer to them."""


@dataclass(frozen=True)
class LoadableCheckpoint:
    """Checks that a checkpoint is complete, and free of code unless `trusted`. option: how the user trusts it."""

    option: str
    trusted: bool = False

    def __call__(self, path: Path) -> None:
        check_checkpoint(path)
        refuse_code(path, self.trusted, self.option)


def refuse_code(path: Path, trusted: bool = False, option: str = TRUST) -> None:
    """Raises UserError (checkpoint.code) for the first file with code, unless the checkpoint is trusted."""
    if trusted or not path.is_dir():
        return
    with reading_checkpoint(path):
        code = next(_code(path), None)
    if code:
        file, problem = code
        raise UserError(
            f"the checkpoint at {path} has code that would run as you: {problem}; take a copy without it, or, if you "
            f"trust its authors, {option}",
            code="checkpoint.code",
            path=path,
            file=file,
            option=option,
        )


def _code(path: Path) -> Iterator[tuple[str, str]]:
    """(file, description)."""
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    for file in files:
        if file.suffix == ".json" and "config" in file.name:
            for key, value in _entries(_content(file)):
                yield file.name, f"{file.name} has {key} ({_short(value)})"
    for file in files:
        if file.suffix in (".py", ".pyc", ".so") and file.name not in _NOT_RUN:
            yield file.name, file.name
        if file.is_dir() and any(inner.suffix in (".py", ".pyc", ".so") for inner in file.iterdir()):
            yield file.name, f"{file.name}/ with Python files"
        if any(file.match(pattern) for pattern in _PICKLES):
            yield file.name, f"{file.name} is a pickle"
        for pickled, safe in _PICKLED_WEIGHTS.items():
            if file.match(pickled) and not any(sibling.match(safe) for sibling in files):
                yield file.name, f"{file.name} is a pickle, and there is no {safe}"


def _content(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # libraries fail on it, too
        return None


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every non-empty entry, at any depth, that makes a library import a file."""
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield from ((key, node[key]) for key in _KEYS if node.get(key))
            pending += node.values()
        elif isinstance(node, list):
            pending += node


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
