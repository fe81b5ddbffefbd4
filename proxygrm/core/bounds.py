"""Bounds of the numbers in a settings record, so that a wrong one is refused where it is given and not hours later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from proxygrm.core.errors import UserError


def require(
    who: str,
    settings: Any,
    *,
    positive: Iterable[str] = (),
    from_one: Iterable[str] = (),
    from_zero: Iterable[str] = (),
    shares: Iterable[str] = (),
    choices: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Raises UserError that names the first field out of its bounds. `shares` lie between 0 and 1; NaN is nowhere.
    choices: field -> the values it may have."""
    for names, words, within in (
        (positive, "must be above 0", lambda value: value > 0),
        (from_one, "must be at least 1", lambda value: value >= 1),
        (from_zero, "must be at least 0", lambda value: value >= 0),
        (shares, "is a share between 0 and 1", lambda value: 0 <= value <= 1),
    ):
        for name in names:
            value = getattr(settings, name)
            if not within(value):
                raise UserError(f"{who}: {name} is {value}; it {words}")
    for name, known in (choices or {}).items():
        if (value := getattr(settings, name)) not in known:
            raise UserError(f"{who}: {name} is {value!r}; it is one of {', '.join(known)}")
