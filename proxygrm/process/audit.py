"""The auditor's answer: how far a solution's checklist agrees with the image, from 0 to 1."""

from __future__ import annotations

import math
import re
from typing import Any

from proxygrm.process.json_text import balanced, lenient_load, objects_in, strip_code_fences

KEY = "p_score"
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")


def reliability_in(text: Any, as_upstream: bool = False) -> float | None:
    """The reliability in the text of an audit; None where it cannot be read.

    It is the number `p_score`, from 0 to 1, of the last JSON object that has this key, so an object that a prompt or a
    line of thought shows first does not count. A percentage, a mark out of 100, true and NaN cannot be read.

    as_upstream: of the first object alone; true is 1.0, of a text its first number counts, and what cannot be read is
    0.0.
    """
    found = audit_object(text, as_upstream)
    if as_upstream:
        value = _coerced((found or {}).get(KEY))
        return value if value is not None and 0 <= value <= 1 else 0.0
    return _strict((found or {}).get(KEY))


def audit_object(text: Any, as_upstream: bool = False) -> dict[str, Any] | None:
    """The JSON object of an audit's text that counts, None where there is none."""
    if not isinstance(text, str):
        return None
    if not as_upstream:
        found = [value for value in objects_in(text) if KEY in value]
        return found[-1] if found else None
    part = balanced(strip_code_fences(text))
    try:
        value = lenient_load(part) if part else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _strict(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value) if value.isascii() and "_" not in value else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None  # NaN is not


def _coerced(value: Any) -> float | None:
    if isinstance(value, int | float):
        return _float(value)
    if not isinstance(value, str):
        return None
    try:
        return _float(value.strip())
    except ValueError:
        number = _NUMBER.search(value)
        return _float(number[0]) if number else None


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
