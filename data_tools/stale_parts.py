"""Parts of a run that failed and will not be gone on with, because the next run has other options: they are removed.

A run of one process keeps the note `OUT/.parts-STAMP.run` locked while it goes on; the note stays with the parts of a
run that failed or was killed. Parts without a note are of shards by hand or of a job array, between whose elements
nobody holds a lock: those are never removed here.
"""

from __future__ import annotations

import fcntl
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxygrm.whole_file import writing


@contextmanager
def one_run(parts: Path, target: str) -> Iterator[None]:
    """Hold the note of `parts`; first remove what ended runs of this machine for the same `target` left beside them."""
    mine = _note(parts)
    says = f"{target}\n{platform.node()}\n"  # locks are not seen by other machines on every file system
    parts.parent.mkdir(parents=True, exist_ok=True)
    for note in parts.parent.glob(".parts-*.run"):
        if note != mine:
            _remove_ended(note, says)
    with mine.open("w", encoding="utf-8") as file:
        _locked(file.fileno(), fcntl.LOCK_SH)  # the same run twice is no conflict
        with writing(mine):
            file.write(says)
            file.flush()
        try:
            yield
        finally:
            if not parts.exists():
                mine.unlink(missing_ok=True)


def keep(parts: Path) -> None:
    """Others go on with them, at times that nobody knows here."""
    _note(parts).unlink(missing_ok=True)


def _note(parts: Path) -> Path:
    return parts.with_name(f"{parts.name}.run")


def _remove_ended(note: Path, says: str) -> None:
    try:
        with note.open(encoding="utf-8") as file:
            if file.read() == says and _locked(file.fileno(), fcntl.LOCK_EX):
                shutil.rmtree(note.with_suffix(""), ignore_errors=True)
                note.unlink(missing_ok=True)
    except OSError:
        return  # gone in this moment, or another's: nothing of ours hangs on it


def _locked(descriptor: int, how: int) -> bool:
    """False where it is held otherwise, or the file system has no locks (then nobody can hold one, or remove)."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
