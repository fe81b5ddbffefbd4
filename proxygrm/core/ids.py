"""The text form of a released id: one rule for every reader, so that ids match in joins.

Texts stay as they are ("007" is not "7"), integers keep every digit, a UUID is written as one, and 7.0, which tables
make of 7 when another row has no id, is 7. Nothing is guessed: a number that has lost digits and a value that is not an
id are errors.
"""

from __future__ import annotations

import json
import math
import uuid
from decimal import Decimal
from typing import Any

_EXACT = 2**53
"""From here on, an integral float may differ from the number that was released."""
_ID_FIELDS = ("id", "ID", "idx", "prompt_id")


class BadId(ValueError):
    """Why a value is not an id."""


def has_id(value: Any) -> bool:
    """Whether the value of an id field is an id at all; null, NaN and the empty text are not."""
    return not (value is None or value == "" or value == b"" or (isinstance(value, float) and math.isnan(value)))


def id_text(value: Any) -> str:
    """The id as text. Raises BadId."""
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
    """JSON, fast; an integer id keeps all its digits. Raises ValueError."""
    import orjson

    row = orjson.loads(data)
    if isinstance(row, dict) and any(isinstance(row.get(name), float) for name in _ID_FIELDS):
        try:
            return json.loads(data)  # orjson reads integers beyond 64 bits as floats
        except ValueError:  # thousands of digits
            return row
    return row


def _of_bytes(value: bytes) -> str:
    """Text that was stored as bytes, or else a UUID, or else hexadecimal digits."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if text.isprintable() and text:
        return text
    return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
