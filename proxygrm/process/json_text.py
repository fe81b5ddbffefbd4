"""JSON as models write it: in a fence, between sentences, with trailing commas or single quotes. Linear and bounded."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

MAX_LITERAL_CHARS = 100_000
"""Longer texts are not read as Python literals: its parser takes much memory for them."""
_OPENING_FENCE = re.compile(r"\A\s*```[\w+-]*[ \t]*\n?")
_CLOSING_FENCE = re.compile(r"\n?```\s*\Z")
Value = TypeVar("Value")
_PARTNER = {"{": "}", "[": "]"}
_STRING_OR_TRAILING_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)


def strip_code_fences(text: str) -> str:
    """Without one leading ```lang line and one closing fence, and without blanks around."""
    return _CLOSING_FENCE.sub("", _OPENING_FENCE.sub("", text.strip(), count=1)).strip()


def balanced(text: str, opening: str = "{") -> str | None:
    """From the first opening bracket to its partner; brackets within double quotes do not count. None: it has none."""
    return next(_balanced_parts(text, opening), None)


def _balanced_parts(text: str, opening: str) -> Iterator[str]:
    """The outermost brackets of the text from left to right, in one pass."""
    closing = _PARTNER[opening]
    depth, start, quoted, escaped = 0, 0, False, False
    for index, character in enumerate(text):
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = depth > 0
        elif character == opening:
            if not depth:
                start = index
            depth += 1
        elif character == closing and depth:
            depth -= 1
            if not depth:
                yield text[start : index + 1]


def without_trailing_commas(text: str) -> str:
    return _STRING_OR_TRAILING_COMMA.sub(lambda match: "" if match[0] == "," else match[0], text)


def lenient_load(text: str) -> Any:
    """JSON; else JSON without trailing commas; else a Python literal; else, where there are single quotes only, JSON
    with double ones. Python's own JSON: NaN and Infinity too. Raises ValueError, for too deep nesting as well."""
    for candidate in (text, without_trailing_commas(text)):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            pass
    if len(text) <= MAX_LITERAL_CHARS:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            pass
    if "'" in text and '"' not in text:
        try:
            return json.loads(text.replace("'", '"'))
        except RecursionError:
            pass
    raise ValueError("not JSON")


def objects_in(text: str) -> list[dict[str, Any]]:
    """Every JSON object of the text that is not inside another one, from left to right."""
    return _values_in(text, "{", dict)


def arrays_in(text: str) -> list[list[Any]]:
    """Every JSON list of the text that is not inside another one, from left to right."""
    return _values_in(text, "[", list)


def _values_in(text: str, opening: str, kind: type[Value]) -> list[Value]:
    found = []
    for part in _balanced_parts(text, opening):
        try:
            value = lenient_load(part)
        except ValueError:
            continue
        if isinstance(value, kind):
            found.append(value)
    return found
