"""verl's checkpoints of a run: which is the newest whole one, and what is left of others."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from proxygrm.torn import checkpoint_of_training
from proxygrm.whole_file import write_text

_STEP = re.compile(r"global_step_(\d+)")
_POINTER = "latest_checkpointed_iteration.txt"


def last_checkpoint(out: Path) -> tuple[int, Path] | None:
    """(step, folder) of the newest whole checkpoint, or None.

    verl names the newest last, in a file of its own; what is newer than that was not finished. A crash may have torn
    the checkpoint it names, or that file: then it is the one before.
    """
    checkpoints = out / "checkpoints"
    pointer = checkpoints / _POINTER
    if not pointer.exists():
        return None
    named = pointer.read_text(encoding="utf-8", errors="replace").strip()
    for step in sorted(_steps(checkpoints), reverse=True):
        folder = checkpoints / f"global_step_{step}"
        if (not named.isdecimal() or step <= int(named)) and not checkpoint_of_training(folder):
            return step, folder
    return None


def tidy(checkpoints: Path, keep: int) -> None:
    """Before verl resumes: let its own file name the newest whole checkpoint; remove what earlier attempts left, a save
    they did not finish, and those verl no longer remembers to remove. What a crash has torn is moved aside."""
    found = last_checkpoint(checkpoints.parent)
    last = found[0] if found else 0
    pointer = checkpoints / _POINTER
    named = pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.exists() else ""
    steps = _steps(checkpoints)
    if pointer.exists() and named != str(last):
        for step in steps:
            folder = checkpoints / f"global_step_{step}"
            if step > last and (not named.isdecimal() or step <= int(named)):
                why = checkpoint_of_training(folder)
                print(f"the checkpoint of step {step} is torn ({why}): resuming from step {last}", flush=True)
                aside = checkpoints / f"torn_{folder.name}"
                shutil.rmtree(aside, ignore_errors=True)  # of an earlier crash at the same step
                folder.rename(aside)
        if last:
            write_text(pointer, str(last))
        else:
            pointer.unlink()
    steps = _steps(checkpoints)
    complete = [step for step in steps if step <= last]
    for step in {*steps} - {*complete[-keep:]}:
        shutil.rmtree(checkpoints / f"global_step_{step}")


def _steps(checkpoints: Path) -> list[int]:
    return sorted(int(name[1]) for path in checkpoints.glob("*") if (name := _STEP.fullmatch(path.name)))
