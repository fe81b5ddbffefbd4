"""Bounds of the values in a settings record, so that a wrong one is refused at once and not hours later."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from typing import Any

from proxygrm.core.errors import UserError


def check_bounds(
    section: str,
    settings: Any,
    *,
    positive: Iterable[str] = (),
    from_one: Iterable[str] = (),
    from_zero: Iterable[str] = (),
    shares: Iterable[str] = (),
    choices: Mapping[str, Iterable[str]] | None = None,
    unlimited: Container[str] = (),
) -> None:
    """Raise UserError that names the first field out of its bounds: settings.out-of-range, settings.unknown-value.

    section: name of the record in the message. `shares` are between 0 and 1; NaN and infinity are out of all bounds.
    choices: field -> the values it may have. unlimited: fields that may be infinite.
    """
    positive, from_one, from_zero = tuple(positive), tuple(from_one), tuple(from_zero)
    for names, rule, within in (
        (
            [name for name in (*positive, *from_one, *from_zero) if name not in unlimited],
            "must be finite",
            lambda value: value != math.inf,
        ),
        (positive, "must be above 0", lambda value: value > 0),
        (from_one, "must be at least 1", lambda value: value >= 1),
        (from_zero, "must be at least 0", lambda value: value >= 0),
        (shares, "is a share between 0 and 1", lambda value: 0 <= value <= 1),
    ):
        for name in names:
            value = getattr(settings, name)
            if not within(value):
                raise UserError(
                    f"{section}: {name} is {value}; it {rule}",
                    code="settings.out-of-range",
                    name=name,
                    value=value,
                )
    for name, known in (choices or {}).items():
        if (value := getattr(settings, name)) not in known:
            raise UserError(
                f"{section}: {name} is {value!r}; it must be one of {', '.join(known)}",
                code="settings.unknown-value",
                name=name,
                value=value,
                known=list(known),
            )
