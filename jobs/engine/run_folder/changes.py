"""What differs between what a stage was made of and what it would be made of now, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_SHOWN = 4


def between(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """before, now: as of `Identity.made_of`. Settings by their path with both values; the rest by name."""
    differences = []
    old, new = flat(before.get("config")), flat(now.get("config"))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key, MISSING) != new.get(key, MISSING):
            differences.append(f"{key or 'its settings'} {_text(old, key)} -> {_text(new, key)}")
    if before.get("array") != now.get("array"):
        differences.append(f"array elements {before.get('array')} -> {now.get('array')}")
    for kind, word in (("prompts", "prompt"), ("needs", "input")):
        was, is_ = before.get(kind) or {}, now.get(kind) or {}
        differences += [f"{word} {name}" for name in dict.fromkeys([*was, *is_]) if was.get(name) != is_.get(name)]
    return differences


def sentence(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Continues "STAGE: "."""
    differences = between(before, now) if before else []
    if not differences:
        return "its configuration, prompts, data or something upstream changed since it was done"
    more = f" and {len(differences) - MAX_SHOWN} more" if len(differences) > MAX_SHOWN else ""
    return f"changed since it was done: {', '.join(differences[:MAX_SHOWN])}{more}"


MISSING = object()


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    if not isinstance(value, Mapping):
        return {path: value}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{path}.{key}".strip(".")).items()}


def _text(values: Mapping[str, Any], key: str) -> str:
    text = repr(values[key]) if key in values else "(not set)"
    return text if len(text) <= 60 else f"{text[:57]}..."
