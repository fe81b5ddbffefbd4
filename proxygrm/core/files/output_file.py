"""A file that a command writes, checked before any work is done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proxygrm.core.errors import UserError


def check_output(target: Path, inputs: Iterable[Path], option: str = "--output") -> None:
    """UserError for a folder (file.not-a-file), and for one of the inputs or a link to it (option.out-is-input)."""
    if target.is_dir():
        raise UserError(f"{option} {target} is a folder; name another file", code="file.not-a-file", path=target)
    if target.exists() and any(each.exists() and target.samefile(each) for each in inputs):
        raise UserError(
            f"{option} {target} is the input; name another file", code="option.out-is-input", path=target, option=option
        )
