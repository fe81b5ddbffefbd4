"""A checkpoint of the last finished step, for a run that has to end during the next one.

verl saves every `trainer.save_freq` steps and has no call for "save now". But it hands its replay buffer a bound
method of the trainer (`refill_fn`, to request more prompts), and so the trainer itself. Before its batch is sampled, a
step changes two things in the state of a run: the number of the step and the position in the training data. Both are
set back while saving, so that the run resumes with the very step it could not finish.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_NEEDED = ("_save_checkpoint", "on_sample_end", "global_steps", "train_dataloader", "config")


class LastStep:
    """The trainer, and the position in the training data at which the last finished step ended."""

    def __init__(self, refill_fn: Callable[..., Any] | None) -> None:
        self._owner = getattr(refill_fn, "__self__", None)
        self._step, self._position = 0, None

    @property
    def _trainer(self) -> Any:
        """None for an unknown trainer. (The replay buffer is created while the trainer is still being built.)"""
        return self._owner if all(hasattr(self._owner, name) for name in _NEEDED) else None

    def sampled(self, step: int) -> None:
        """`step` has its batch, and will be finished."""
        if self._trainer is not None:
            self._step, self._position = step, copy.deepcopy(self._trainer.train_dataloader.state_dict())

    def save(self, step: int, generating: bool = False) -> str:
        """Save the run as it was before `step`; returns a sentence on where the run will resume. Never raises: the run
        ends for another reason, which must not be hidden. generating: rollouts of `step` are still being generated;
        they are aborted."""
        last = step - 1
        try:
            if last == 0:
                return "No step was finished: the run will start from the beginning"
            if self._trainer is None:
                return "The run will resume from its last checkpoint"
            if self._step == last and self._saved() != last:
                if generating:
                    self._trainer.checkpoint_manager.abort_replicas()
                self._save(last)
            return f"The run will resume from a checkpoint of step {self._saved()}"
        except Exception as error:
            return (
                f"Saving step {last} failed too ({type(error).__name__}: {error}); older checkpoints are as they were"
            )

    def _saved(self) -> int:
        """Step of the newest checkpoint."""
        tracker = Path(self._trainer.config.trainer.default_local_dir) / "latest_checkpointed_iteration.txt"
        return int(tracker.read_text(encoding="utf-8")) if tracker.exists() else 0

    def _save(self, last: int) -> None:
        trainer, current = self._trainer, (self._trainer.global_steps, self._trainer.train_dataloader)
        trainer.on_sample_end()  # the rollout engine frees its memory, as before any other checkpoint
        trainer.global_steps, trainer.train_dataloader = last, SimpleNamespace(state_dict=lambda: self._position)
        try:
            trainer._save_checkpoint()
        finally:
            trainer.global_steps, trainer.train_dataloader = current
