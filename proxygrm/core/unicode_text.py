"""Texts that UTF-8 can hold. JSON may escape a lone surrogate; no file that is written from it can have one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxygrm.core.bad_row import BadRow


def is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogates, which parquet and JSON cannot hold."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_unicode(value: Any, name: str) -> None:
    """Raise BadRow (not_unicode) for a JSON value with a lone surrogate in one of its texts or names."""
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            if not is_unicode(each):
                raise BadRow("not_unicode", f"there is a lone surrogate in {name}")
        elif isinstance(each, dict):
            pending.extend(each)
            pending.extend(each.values())
        elif isinstance(each, Iterable):
            pending.extend(each)
