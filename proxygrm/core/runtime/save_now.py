"""A last checkpoint before a job is requeued: the job asks, the training inside it saves and answers.

They are different processes, often on different nodes; what they share is the training's folder. The job leaves
`save_now` there, the training looks for it whenever it could save, and answers in `saved_now`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxygrm.core.files.whole_file import write_text

LOOK_S = 0.2
_trainings: list[tuple[SaveNow, subprocess.Popen[bytes]]] = []


class SaveNow:
    """Both ends of the question, for the training that writes into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._question, self._answer = folder / "save_now", folder / "saved_now"

    def ask(self) -> None:
        self._question.touch()

    def asked(self) -> bool:
        return self._question.exists()

    def answer(self, text: str) -> None:
        """What there is now to go on from, in a sentence."""
        write_text(self._answer, text + "\n")

    def answered(self) -> str | None:
        return self._answer.read_text(encoding="utf-8").strip() if self._answer.exists() else None

    def forget(self) -> None:
        self._question.unlink(missing_ok=True)
        self._answer.unlink(missing_ok=True)


@contextmanager
def listening(folder: Path, training: subprocess.Popen[bytes]) -> Iterator[None]:
    """While the block runs, `training` is a child of this process that answers in `folder`."""
    entry = (SaveNow(folder), training)
    _trainings.append(entry)
    try:
        yield
    finally:
        _trainings.remove(entry)


def save_before(deadline: float) -> str:
    """Ask the training of this process, if there is one, and wait for its answer until `deadline` (time.time()).

    Returns what became of it, in a sentence. Raises nothing of its own: whoever asks has to go on to requeue.
    """
    if not _trainings:
        return "Every finished row is on disk"
    question, training = _trainings[-1]
    began = time.time()
    question.ask()
    while (answer := question.answered()) is None:
        if training.poll() is not None:
            return "The training had ended by itself"
        if time.time() > deadline:
            return f"No checkpoint within {deadline - began:.0f} s: it goes on from its last one"
        time.sleep(LOOK_S)
    return f"{answer} (after {time.time() - began:.1f} s)"
