"""What differs between what a stage was made of and what it would be made of now, in a person's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST = 4


def between(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """before, now: as `Stage.facts` has them. Settings by their path with both values; the rest by name."""
    found = []
    old, new = flat(before.get("config")), flat(now.get("config"))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key, MISSING) != new.get(key, MISSING):
            found.append(f"{key or 'its settings'} {shown(old, key)} -> {shown(new, key)}")
    if before.get("array") != now.get("array"):
        found.append(f"array elements {before.get('array')} -> {now.get('array')}")
    for kind, word in (("prompts", "prompt"), ("needs", "input")):
        was, is_ = before.get(kind) or {}, now.get(kind) or {}
        found += [f"{word} {name}" for name in dict.fromkeys([*was, *is_]) if was.get(name) != is_.get(name)]
    return found


def sentence(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Continues "STAGE: "."""
    found = between(before, now) if before else []
    if not found:
        return "its configuration, prompts, data or something upstream changed since it was done"
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return f"changed since it was done: {', '.join(found[:MOST])}{more}"


MISSING = object()


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    if not isinstance(value, Mapping):
        return {path: value}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{path}.{key}".strip(".")).items()}


def shown(values: Mapping[str, Any], key: str) -> str:
    text = repr(values[key]) if key in values else "(not there)"
    return text if len(text) <= 60 else f"{text[:57]}..."
