"""verl's checkpoints of a run: which is the newest whole one, and what is left of others."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from proxygrm.core.checkpoints.torn import checkpoint_of_training
from proxygrm.core.files.whole_file import write_text

_STEP = re.compile(r"global_step_(\d+)")
_POINTER = "latest_checkpointed_iteration.txt"


def last_checkpoint(out: Path) -> tuple[int, Path] | None:
    """(step, folder) of the newest whole checkpoint, or None.

    verl names the newest last, in a file of its own; what is newer than that was not finished. A crash may have torn
    the checkpoint it names, or that file: then it is the one before.
    """
    checkpoints = out / "checkpoints"
    for step in reversed(_finished(checkpoints)):
        folder = checkpoints / f"global_step_{step}"
        if not checkpoint_of_training(folder):
            return step, folder
    return None


def tidy(checkpoints: Path, keep: int) -> None:
    """Before verl resumes: let its own file name the newest whole checkpoint; remove what earlier attempts left, a save
    they did not finish, and those verl no longer remembers to remove. What a crash has torn is moved aside."""
    found = last_checkpoint(checkpoints.parent)
    last = found[0] if found else 0
    if _named(checkpoints) not in (None, str(last)):
        for step in _finished(checkpoints):
            if step <= last:
                continue
            folder = checkpoints / f"global_step_{step}"
            why = checkpoint_of_training(folder)
            print(f"the checkpoint of step {step} is torn ({why}): resuming from step {last}", flush=True)
            aside = checkpoints / f"torn_{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)  # of an earlier crash at the same step
            folder.rename(aside)
        if last:
            write_text(checkpoints / _POINTER, str(last))
        else:
            (checkpoints / _POINTER).unlink()
    steps = _steps(checkpoints)
    complete = [step for step in steps if step <= last]
    for step in {*steps} - {*complete[-keep:]}:
        shutil.rmtree(checkpoints / f"global_step_{step}")


def _named(checkpoints: Path) -> str | None:
    """What verl's own file says of the newest step; None before the first save."""
    pointer = checkpoints / _POINTER
    return pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.exists() else None


def _finished(checkpoints: Path) -> list[int]:
    """Steps up to the one that verl names, in order; where that name is torn, all."""
    named = _named(checkpoints)
    if named is None:
        return []
    return [step for step in _steps(checkpoints) if not named.isdecimal() or step <= int(named)]


def _steps(checkpoints: Path) -> list[int]:
    return sorted(int(name[1]) for path in checkpoints.glob("*") if (name := _STEP.fullmatch(path.name)))
