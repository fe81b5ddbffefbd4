"""A released id as the text that it is known by: the one rule for every reader, so that ids meet again in joins.

Texts stay as they are ("007" is not "7"), whole numbers keep every digit, a UUID is written as one, and 7.0, which is
what tables make of 7 when another row has no id, is 7. Nothing is guessed: what has lost digits, and what is no id,
is an error.
"""

from __future__ import annotations

import json
import math
import uuid
from decimal import Decimal
from typing import Any

_EXACT = 2**53
"""Whole floats from here on may stand for another number than the one that was released."""
_ID_FIELDS = ("id", "ID", "idx", "prompt_id")


class BadId(ValueError):
    """Why a value is no id."""


def given(value: Any) -> bool:
    """Whether a row has an id at all: null, NaN and the empty text are none."""
    return not (value is None or value == "" or value == b"" or (isinstance(value, float) and math.isnan(value)))


def id_text(value: Any) -> str:
    """Raises BadId."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise BadId("id is bool")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadId(f"id is {value}")
        if abs(value) >= _EXACT:
            raise BadId(f"id is the float {value!r}, whose last digits are lost; store it as a text")
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int | uuid.UUID | Decimal):
        return str(value)
    if isinstance(value, bytes):
        return _of_bytes(value)
    raise BadId(f"id is {type(value).__name__}")


def loads(data: bytes) -> Any:
    """JSON, fast; a whole number that an id is keeps all its digits. Raises ValueError."""
    import orjson

    row = orjson.loads(data)
    if isinstance(row, dict) and any(isinstance(row.get(name), float) for name in _ID_FIELDS):
        try:
            return json.loads(data)  # orjson makes a float of what is beyond 64 bits
        except ValueError:  # thousands of digits
            return row
    return row


def _of_bytes(value: bytes) -> str:
    """A text that was stored as bytes, or else a UUID, or else its digits."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if text.isprintable() and text:
        return text
    return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
