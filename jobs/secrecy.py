"""What is asked for is written into run folders, scripts and logs: a secret among it is refused, not masked."""

from __future__ import annotations

import re
from typing import Any

from jobs.stage import plain
from proxygrm.errors import UserError

_SECRETS = (
    (re.compile(r"\b[\w+.-]+://[^\s/@:]*:[^\s/@]+@"), "a password in a URL"),
    (re.compile(r"[?&](?:api[_-]?key|access[_-]?token|token|key|secret)=[^\s&]+", re.IGNORECASE), "a key in a URL"),
    (
        re.compile(r"\b(?:sk-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|xox[bap]-[\w-]{10,})"),
        "an API key",
    ),
    (re.compile(r"\b\w*(?:API_KEY|TOKEN|SECRET|PASSWORD)=(?!\$|\s|$|['\"]?\$)[^\s]{6,}"), "a secret set in shell text"),
)
"""Shapes of secrets, and what to call them without showing them."""


def refuse(asked: Any, where: str) -> None:
    """Raise UserError when any text within settings (dataclasses, lists, tables) looks like a secret."""
    for path, text in _texts(plain(asked), where):
        for shape, name in _SECRETS:
            if shape.search(text):
                raise UserError(
                    f"{path} holds {name}, which would be written into the run folder; keep it in a 0600 file "
                    "(distill.api_key_file, SWANLAB_API_KEY_FILE) or in your shell's environment"
                )


def looks_secret(text: str) -> bool:
    return any(shape.search(text) for shape, _ in _SECRETS)


def _texts(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(path, value)]
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in _texts(inner, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for inner in value for found in _texts(inner, path)]
    return []
