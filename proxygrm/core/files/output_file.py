"""A file that a command writes, checked before any work is done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proxygrm.core.errors import UserError

LOGS = (".dropped.jsonl", ".dropped.refused.jsonl")
"""Ends of the names of the files beside an output: the bad rows, and those of a run with too many."""
REPORT = ".report.json"
"""The same of the counts."""


def check_output(target: Path, inputs: Iterable[Path], option: str = "--output", beside: Iterable[str] = ()) -> None:
    """UserError for a folder (file.not-a-file), and for one of the inputs or a link to it (option.out-is-input).

    beside: endings of the names of the files that are written, or removed, beside the target.
    """
    if target.is_dir():
        raise UserError(f"{option} {target} is a folder; name another file", code="file.not-a-file", path=target)
    if not (others := [each for end in ("", *beside) if (each := target.with_name(target.name + end)).exists()]):
        return
    existing = [each for each in inputs if each.exists()]
    if taken := [other for other in others if any(other.samefile(each) for each in existing)]:
        what = f"{target} is the input" if taken[0] == target else f"{target} would replace the input, {taken[0]}"
        raise UserError(f"{option} {what}; name another file", code="option.out-is-input", path=taken[0], option=option)
