"""Errors that users are meant to read, by their code and values; their sentences are tested once, in golden files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from proxygrm.core.errors import UserError


@contextmanager
def refused(code: str, **values: Any) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """The block raises a UserError of this code, with at least these values."""
    with pytest.raises(UserError) as caught:
        yield caught
    error = caught.value
    assert error.code == code, f"{error.code or 'no code'}: {error}"
    assert {name: error.values.get(name) for name in values} == values


def code_of(output: str) -> str:
    """The code at the end of the error line that a command printed; "" where there is none."""
    found = re.findall(r"\[([a-z0-9-]+\.[a-z0-9-]+)\]\s*$", output.strip())
    return found[-1] if found else ""
