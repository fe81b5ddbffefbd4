"""Parts of a run that failed and will not be gone on with, because the next run has other options: they are removed.

A run of one process holds `OUT/.parts-STAMP.lock` while it goes on; its note `OUT/.parts-STAMP.run` stays with the
parts of a run that failed or was killed. Parts without a note are of shards by hand or of a job array, between whose
elements nobody holds a lock: those are never removed here.
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
def one_run(parts: Path, target: str) -> Iterator[None]:
    """Hold the note of `parts`; first remove what ended runs of this machine for the same `target` left beside them."""
    mine = _note(parts)
    says = f"{target}\n{platform.node()}\n"  # of another machine's process one cannot always tell whether it lives
    parts.parent.mkdir(parents=True, exist_ok=True)
    for note in parts.parent.glob(".parts-*.run"):
        if note != mine:
            _remove_ended(note, says)
    removed = f"{parts} is being removed by another run"
    with lock.shared(_lock_of(mine), removed, wait_s=_WAIT_S):  # the same run twice is not a conflict
        with mine.open("w", encoding="utf-8") as file, writing(mine):
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
    alone = lock.Lock(_lock_of(note))
    try:
        if note.read_text(encoding="utf-8") != says or alone.acquire():
            return
        try:
            if note.read_text(encoding="utf-8") == says:
                shutil.rmtree(note.with_suffix(""), ignore_errors=True)
                note.unlink(missing_ok=True)
        finally:
            alone.release()
    except OSError:
        return  # gone in this moment, or another's: nothing of ours hangs on it


def _lock_of(note: Path) -> Path:
    return note.with_suffix(".lock")
