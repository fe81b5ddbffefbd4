"""A last checkpoint before a job is requeued: the job requests it, the training inside it saves and answers.

They are different processes, often on different nodes; they share the training's folder. The job creates `save_now`
there; the training checks for it whenever it could save, and answers in `saved_now`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from proxygrm.core.files.whole_file import write_text

POLL_S = 0.2
_trainings: list[tuple[SaveNow, Training]] = []


class Training(Protocol):
    """A child process, such as `child_process.ChildProcess`."""

    def poll(self) -> int | None: ...


class SaveNow:
    """Both ends of the request, for the training that writes into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._request, self._answer = folder / "save_now", folder / "saved_now"

    def request(self) -> None:
        self._request.touch()

    def is_requested(self) -> bool:
        return self._request.exists()

    def answer(self, text: str) -> None:
        """text: a sentence, such as which checkpoint there is now to resume from."""
        write_text(self._answer, text + "\n")

    def read_answer(self) -> str | None:
        return self._answer.read_text(encoding="utf-8").strip() if self._answer.exists() else None

    def clear(self) -> None:
        """Before a new attempt."""
        self._request.unlink(missing_ok=True)
        self._answer.unlink(missing_ok=True)


@contextmanager
def listening(folder: Path, training: Training) -> Iterator[None]:
    """While the block runs, `save_before` requests a checkpoint of `training`, which answers in `folder`."""
    entry = (SaveNow(folder), training)
    _trainings.append(entry)
    try:
        yield
    finally:
        _trainings.remove(entry)


def save_before(deadline: float) -> str:
    """Request a checkpoint of this process's training, if there is one, and wait for its answer until `deadline`
    (time.time()). Returns the outcome as a sentence. Raises OSError at most: the caller has to requeue in any case.
    """
    if not _trainings:
        return "Every finished row is on disk"
    save_now, training = _trainings[-1]
    started = time.time()
    save_now.request()
    while (answer := save_now.read_answer()) is None:
        if training.poll() is not None:
            return "The training had ended by itself"
        if time.time() > deadline:
            return f"No checkpoint within {deadline - started:.0f} s: it resumes from its last one"
        time.sleep(POLL_S)
    return f"{answer} (after {time.time() - started:.1f} s)"
