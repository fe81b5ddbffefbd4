"""verl's replay buffer, plus an account of the parts of the rewards.

verl logs only the score of training rollouts; the parts stay in the queue's rows (`extra_fields`). This hook
(`trainer.v1.sampler.custom_sampler`) gets each step's rows once, right before they are trained on. It writes them to
`rollouts/step_NNNNN.jsonl`, returns their means as metrics of the step (so that all of verl's trackers get them),
removes rollouts without a reward from the batch, and ends the run, with a checkpoint of the last finished step, when
too many have none, or when the job is about to be requeued.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from proxygrm.core.files.whole_file import whole_file, write_text
from proxygrm.core.runtime.save_now import SaveNow
from proxygrm.core.runtime.tracking import KEY_VARIABLE, MODE_VARIABLE, choose_mode
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.last_step import LastStep
from proxygrm.rl.plugins.step_rollouts import TooManyUnscored, kept_rollouts, step_metrics, why_stop

log = logging.getLogger(__name__)


class RequeueRequested(Exception):
    """The job is about to be requeued; the message says where the run will resume."""


class CountingReplayBuffer(ReplayBuffer):
    """verl's synchronous sampling; see the module's docstring for what is added."""

    def __init__(self, *args: Any, sampler_kwargs: Any, poll_interval: float = 0.25, **kwargs: Any) -> None:
        super().__init__(*args, sampler_kwargs=sampler_kwargs, poll_interval=poll_interval, **kwargs)
        self.options = RewardOptions.read(sampler_kwargs["options"])
        Path(self.options.rollouts).mkdir(parents=True, exist_ok=True)
        self.last_step = LastStep(self.refill_fn)
        self.save_now = SaveNow(Path(self.options.stop_file).parent)
        self.unfinished = 0
        _choose_swanlab_mode()

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        self.unfinished = global_steps + (partition_id != "train")  # a validation comes after its step
        batch, metrics = super().sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
        if partition_id != "train":
            return batch, metrics
        rows = self._rows(batch)
        expected = batch_size * self.options.group_size
        self._write(global_steps, rows)
        reward_metrics = step_metrics(rows, expected, self.options.reward, self.options.smallest_group)
        limits = (self.options.max_unscored, self.options.max_no_verdict, self.options.smallest_group)
        if reason := why_stop(rows, expected, *limits):
            message = f"step {global_steps}: {reason}. {self.last_step.save(global_steps)}; submit again to resume"
            write_text(Path(self.options.stop_file), message + "\n")
            raise TooManyUnscored(message)
        keep = kept_rollouts(rows, self.options.smallest_group)
        if len(keep) < len(rows):
            kept = set(keep)
            removed = [key for i, key in enumerate(batch.keys) if i not in kept]
            batch = type(batch)(
                partition_id=batch.partition_id,
                keys=[batch.keys[i] for i in keep],
                tags=[batch.tags[i] for i in keep],
            )
            tq.kv_clear(keys=removed, partition_id=partition_id)
        self.last_step.sampled(global_steps)
        return batch, {**metrics, **reward_metrics}

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        """verl calls this several times a second while rollouts are being generated, most of a step's time."""
        if self.save_now.is_requested():
            message = self.last_step.save(self.unfinished, generating=True)
            self.save_now.answer(message)
            raise RequeueRequested(message)
        return super()._wait_for_next_poll(partition_id, last_debug_time)

    def _rows(self, batch: Any) -> list[dict[str, Any]]:
        """The reward function's result for each rollout of the batch, plus its prompt's uid as `group`."""
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
        rows = []
        for key, item in zip(batch.keys, data["extra_fields"], strict=True):
            fields = getattr(item, "data", item)
            row = {"group": key.split("_")[0], "rollout": key, **fields.get("reward_extra_info", {})}
            numbers = json.loads(row.pop("numbers", "{}"))
            rows.append({**row, "numbers": numbers} if numbers else row)
        return rows

    def _write(self, step: int, rows: list[dict[str, Any]]) -> None:
        path = Path(self.options.rollouts) / f"step_{step:05d}.jsonl"
        with whole_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"step": step, **row}, ensure_ascii=False) + "\n" for row in rows)
        problems = Counter(row["problem"] for row in rows if row.get("problem"))
        log.info("step %d: %d rollouts; problems: %s", step, len(rows), dict(problems.most_common()) or "none")


def _choose_swanlab_mode() -> None:
    """Online with a key, offline without, or as the user's own switch says, for the tracker that verl creates next in
    this process.

    It is set here and not in Ray's runtime_env, which is printed; and verl's own login would end the run where compute
    nodes have no internet access.
    """
    os.environ[MODE_VARIABLE] = choose_mode(Path(os.environ["SWANLAB_LOG_DIR"]))
    os.environ.pop(KEY_VARIABLE, None)
