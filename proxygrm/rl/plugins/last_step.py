"""A checkpoint of the last finished step, for a run that has to end within the next one.

verl saves every `trainer.save_freq` steps and has no call for "save now". But it hands its replay buffer a bound
method of the trainer (`refill_fn`, to ask for more prompts), and so the trainer itself. What a step adds to the state
of a run before its batch is sampled is the number of the step and the place in the training data; both are put back
for the time of saving, so that the run starts again with the very step it could not finish.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_NEEDED = ("_save_checkpoint", "on_sample_end", "global_steps", "train_dataloader", "config")


class LastStep:
    """Knows the trainer, and where in the training data the last finished step ended."""

    def __init__(self, refill_fn: Callable[..., Any] | None) -> None:
        self._owner = getattr(refill_fn, "__self__", None)
        self._step, self._place = 0, None

    @property
    def _trainer(self) -> Any:
        """None where there is none that we know. The replay buffer is made while the trainer is still being built."""
        return self._owner if all(hasattr(self._owner, name) for name in _NEEDED) else None

    def sampled(self, step: int) -> None:
        """`step` has its batch, and is going to be finished."""
        if self._trainer is not None:
            self._step, self._place = step, copy.deepcopy(self._trainer.train_dataloader.state_dict())

    def save(self, step: int, generating: bool = False) -> str:
        """Save the run as it was before `step`; says what there is now to go on from. Never raises: the run ends for
        another reason, which must be heard. generating: rollouts of `step` are still under way; they are given up."""
        last = step - 1
        try:
            if last == 0:
                return "No step was finished: it starts again"
            if self._trainer is None:
                return "It goes on from its last checkpoint"
            if self._step == last and self._saved() != last:
                if generating:
                    self._trainer.checkpoint_manager.abort_replicas()
                self._save(last)
            return f"A checkpoint of step {self._saved()} is there to go on from"
        except Exception as error:
            return (
                f"Saving step {last} failed too ({type(error).__name__}: {error}); older checkpoints are as they were"
            )

    def _saved(self) -> int:
        """Step of the newest checkpoint."""
        tracker = Path(self._trainer.config.trainer.default_local_dir) / "latest_checkpointed_iteration.txt"
        return int(tracker.read_text(encoding="utf-8")) if tracker.exists() else 0

    def _save(self, last: int) -> None:
        trainer, now = self._trainer, (self._trainer.global_steps, self._trainer.train_dataloader)
        trainer.on_sample_end()  # the rollout engine gives back its memory, as before any other checkpoint
        trainer.global_steps, trainer.train_dataloader = last, SimpleNamespace(state_dict=lambda: self._place)
        try:
            trainer._save_checkpoint()
        finally:
            trainer.global_steps, trainer.train_dataloader = now
