"""verl's checkpoints of a run: find the newest complete one, and clean up the others."""

from __future__ import annotations

import logging
import re
import shutil
from contextlib import suppress
from pathlib import Path

from proxygrm.core.checkpoints.torn import why_torn
from proxygrm.core.files.whole_file import write_text

_STEP = re.compile(r"global_step_(\d+)")
_POINTER = "latest_checkpointed_iteration.txt"
log = logging.getLogger(__name__)


def last_checkpoint(out: Path) -> tuple[int, Path] | None:
    """(step, folder) of the newest complete checkpoint, or None.

    verl writes the newest step into a file after the checkpoint itself; newer checkpoints were not finished. A crash
    may have torn the checkpoint that the file names, or the file: then it is the one before.
    """
    checkpoints = out / "checkpoints"
    for step in reversed(_finished(checkpoints)):
        folder = checkpoints / f"global_step_{step}"
        if not why_torn(folder):
            return step, folder
    return None


def clean_up(checkpoints: Path, keep: int) -> None:
    """Before verl resumes: make its file name the newest complete checkpoint; remove unfinished saves of earlier
    attempts, and all but the last `keep` checkpoints (a restarted verl has forgotten them). Move torn ones aside."""
    checkpoint = last_checkpoint(checkpoints.parent)
    last = checkpoint[0] if checkpoint else 0
    if _named(checkpoints) not in (None, str(last)):
        for step in _finished(checkpoints):
            if step <= last:
                continue
            folder = checkpoints / f"global_step_{step}"
            reason = why_torn(folder)
            log.warning("the checkpoint of step %d is torn (%s): resuming from step %d", step, reason, last)
            aside = checkpoints / f"torn_{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)  # from an earlier crash at the same step
            folder.rename(aside)
        if last:
            write_text(checkpoints / _POINTER, str(last))
        else:
            (checkpoints / _POINTER).unlink()
    steps = _steps(checkpoints)
    complete = [step for step in steps if step <= last]
    for step in {*steps} - {*complete[-keep:]}:
        shutil.rmtree(checkpoints / f"global_step_{step}")


def prune(checkpoints: Path, keep: int) -> None:
    """While verl runs, and when it has ended: remove all but the last `keep` finished checkpoints.

    verl itself only removes those that its own process has saved, so a resumed run would hold twice as many, and leaves
    the position in the data (data.pt) of every one. A checkpoint that is being written comes after the one that verl's
    file names. Never an error: the training matters more than the space.
    """
    with suppress(OSError):
        if (_named(checkpoints) or "").isdecimal():
            for step in _finished(checkpoints)[:-keep]:
                shutil.rmtree(checkpoints / f"global_step_{step}", ignore_errors=True)  # verl may be at it, too


def _named(checkpoints: Path) -> str | None:
    """The newest step by verl's file; None before the first save."""
    pointer = checkpoints / _POINTER
    return pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.exists() else None


def _finished(checkpoints: Path) -> list[int]:
    """Steps up to the one that verl's file names, in order; all of them when the file is torn."""
    named = _named(checkpoints)
    if named is None:
        return []
    return [step for step in _steps(checkpoints) if not named.isdecimal() or step <= int(named)]


def _steps(checkpoints: Path) -> list[int]:
    return sorted(int(match[1]) for path in checkpoints.glob("*") if (match := _STEP.fullmatch(path.name)))
