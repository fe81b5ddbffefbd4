"""Removes the parts of a failed run that will not be resumed, because the next run has other options.

A run in one process holds `OUT/.parts-STAMP.lock` while it runs; its note `OUT/.parts-STAMP.run` is left beside the
parts of a run that failed or was killed. Parts without a note belong to shards run by hand or to a job array, between
whose elements no lock is held: those are never removed here.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxygrm.core.files import lock
from proxygrm.core.files.whole_file import writing

_WAIT_S = 600.0


@contextmanager
def hold_parts(parts: Path, target: str) -> Iterator[None]:
    """Mark `parts` as in use; first remove what ended runs on this machine for the same `target` left beside them."""
    own_note = _note(parts)
    content = f"{target}\n{platform.node()}\n"  # on another machine a process cannot always be checked for life
    parts.parent.mkdir(parents=True, exist_ok=True)
    for note in parts.parent.glob(".parts-*.run"):
        if note != own_note:
            _remove_ended(note, content)
    removed = f"{parts} is being removed by another run"
    with lock.shared(_lock_of(own_note), removed, wait_s=_WAIT_S):  # the same run twice is not a conflict
        with own_note.open("w", encoding="utf-8") as file, writing(own_note):
            file.write(content)
            file.flush()
        try:
            yield
        finally:
            if not parts.exists():
                own_note.unlink(missing_ok=True)


def keep_parts(parts: Path) -> None:
    """Never remove these parts: other processes resume from them, at unknown times."""
    _note(parts).unlink(missing_ok=True)


def _note(parts: Path) -> Path:
    return parts.with_name(f"{parts.name}.run")


def _remove_ended(note: Path, content: str) -> None:
    alone = lock.Lock(_lock_of(note))
    try:
        if note.read_text(encoding="utf-8") != content or alone.acquire():
            return
        try:
            if note.read_text(encoding="utf-8") == content:
                shutil.rmtree(note.with_suffix(""), ignore_errors=True)
                note.unlink(missing_ok=True)
        finally:
            alone.release()
    except OSError:
        return  # removed meanwhile, or owned by another user: this run does not need it


def _lock_of(note: Path) -> Path:
    return note.with_suffix(".lock")
