"""What may be the name of a model or judge, since it becomes a file name."""

from __future__ import annotations

import re
from collections.abc import Collection

from proxygrm.core.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_file_name(name: str, reserved: Collection[str] = ()) -> None:
    """UserError for a name that cannot be part of a file name here."""
    if not _NAME.fullmatch(name) or name in reserved:
        raise UserError(
            f"{name!r} cannot be a name here: letters, digits, dots, dashes and underscores only"
            + (f", and not {', '.join(reserved)}" if reserved else ""),
            code="eval.bad-name",
            name=name,
        )
