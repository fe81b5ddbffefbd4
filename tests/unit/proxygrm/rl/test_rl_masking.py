"""A rollout without a reward enters no advantage, and a run that has to end leaves a checkpoint to resume from.

verl's own advantage, checkpoint and data loader; only the queue that rollouts come from is a dictionary here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from proxygrm.rewards.accuracy import Accuracy
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.step_rollouts import TooManyUnscored

pytestmark = [pytest.mark.heavy, pytest.mark.slow]

GROUP = 4


class Queue:
    """The part of verl's TransferQueue that the sampler uses."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str]) -> dict[str, list[Any]]:
        assert (partition_id, select_fields) == ("train", ["extra_fields"])
        return {"extra_fields": [{"reward_extra_info": self.rows[key]} for key in keys]}

    def kv_clear(self, keys: list[str], partition_id: str) -> None:
        for key in keys:
            del self.rows[key]


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: rows of a step in, the batch that the sampler hands on and its metrics out."""
    from transfer_queue import KVBatchMeta
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    from proxygrm.rl.plugins import sampler

    queue = Queue()
    monkeypatch.setattr(sampler, "tq", queue)
    monkeypatch.setenv("SWANLAB_LOG_DIR", str(tmp_path / "swanlog"))
    monkeypatch.delenv("SWANLAB_API_KEY", raising=False)
    monkeypatch.delenv("SWANLAB_API_KEY_FILE", raising=False)

    def came(self: Any, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        return KVBatchMeta(partition_id=partition_id, keys=list(queue.rows), tags=[{} for _ in queue.rows]), {}

    monkeypatch.setattr(ReplayBuffer, "sample", came)
    options = RewardOptions(
        str(tmp_path / "rollouts"), str(tmp_path / "stopped.txt"), GROUP, reward=Accuracy(), max_unscored=0.5
    ).write(tmp_path / "options.json")

    def make(refill_fn: Any = None) -> Any:
        kwargs = {"sampler_kwargs": {"options": str(options)}, "refill_fn": refill_fn}
        buffer = sampler.CountingReplayBuffer("sync", {}, None, "drop", **kwargs)

        def run(number: int, rows: dict[str, dict[str, Any]]) -> tuple[list[str], dict[str, float]]:
            queue.rows = dict(rows)
            batch, metrics = buffer.sample(number, "train", len({key.split("_")[0] for key in rows}))
            assert list(queue.rows) == batch.keys
            assert len(batch.tags) == len(batch.keys)
            return batch.keys, metrics

        run.buffer = buffer  # type: ignore[attr-defined]
        return run

    return make


def row(score: float, lost: bool = False) -> dict[str, Any]:
    problem = "proxy_timeout" if lost else ""
    parts = {"accuracy": 1.0, "proxy": 0.0, "format": 1.0}
    return {"score": score, **parts, "unscored": float(lost), "problem": problem}


def advantages(keys: list[str], scores: list[float]) -> dict[str, float]:
    """verl's GRPO advantages of rollouts with these scores, as its trainer computes them."""
    import torch
    from tensordict import TensorDict
    from verl.protocol import DataProto
    from verl.trainer.ppo.core_algos import AdvantageEstimator
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    tokens = torch.zeros(len(keys), 3)
    tokens[:, -1] = torch.tensor(scores)
    batch = TensorDict({"token_level_rewards": tokens, "response_mask": torch.ones(len(keys), 3)}, len(keys))
    data = DataProto(batch=batch)
    data.non_tensor_batch["uid"] = np.array([key.split("_")[0] for key in keys], dtype=object)
    done = compute_advantage_for_multi_trajectories(data, keys, AdvantageEstimator.GRPO, num_repeat=GROUP)
    return dict(zip(keys, done.batch["advantages"][:, 0].tolist(), strict=True))


def test_advantages_are_those_of_the_scored_rollouts_alone(step: Any) -> None:
    scores = {"a": [2.5, 0.5, -1.5, 99.0], "b": [1.0, -1.0, 0.0, 2.0], "c": [2.5, 0.0, 0.0, 0.0]}
    lost = {"a_3_0", "c_1_0", "c_2_0", "c_3_0"}  # of "c" one rollout is left, with nothing to compare it with
    rows = {
        f"{group}_{i}_0": row(score, f"{group}_{i}_0" in lost)
        for group, values in scores.items()
        for i, score in enumerate(values)
    }
    keys, metrics = step()(1, rows)
    values = advantages(keys, [rows[key]["score"] for key in keys])
    assert values.keys() == {"a_0_0", "a_1_0", "a_2_0", "b_0_0", "b_1_0", "b_2_0", "b_3_0"}
    for group, kept in (("a", scores["a"][:3]), ("b", scores["b"])):
        for i, score in enumerate(kept):
            wanted = (score - np.mean(kept)) / (np.std(kept, ddof=1) + 1e-6)
            assert values[f"{group}_{i}_0"] == pytest.approx(wanted, abs=1e-5)
    unmasked = advantages(list(rows), [one["score"] for one in rows.values()])
    assert unmasked["a_0_0"] != pytest.approx(values["a_0_0"], abs=0.1)  # the effect of a made-up score
    assert (metrics["reward/scored"], metrics["reward/left_alone"]) == (8, 1)
    assert metrics["reward/unscored_by/proxy_timeout"] == 4


class Trainer:
    """The part of verl's trainer that saves: its own `_save_checkpoint`, in one process without a model."""

    def __init__(self, folder: Path) -> None:
        from omegaconf import OmegaConf
        from verl.trainer.ppo.v1.trainer_base import PPOTrainer

        self._save_checkpoint = PPOTrainer._save_checkpoint.__get__(self)
        trainer = {"default_local_dir": str(folder), "default_hdfs_dir": None}
        self.config = OmegaConf.create({"trainer": trainer, "actor_rollout_ref": {"actor": {}}})
        self.use_critic, self.trainer_mode = False, "sync"
        self.actor_rollout_wg = SimpleNamespace(save_checkpoint=self.save_actor)
        self.checkpoint_callback = SimpleNamespace(on_save=lambda **_: None)
        self.checkpoint_manager = SimpleNamespace(abort_replicas=self.abort)
        self.slept = self.aborted = 0

    def init(self) -> Trainer:
        """As verl's trainer, which makes its replay buffer before this."""
        from torchdata.stateful_dataloader import StatefulDataLoader

        self.train_dataloader, self.global_steps = StatefulDataLoader(list(range(20)), batch_size=2), 0
        return self

    def save_actor(self, path: str, remote: str | None, step: int, max_ckpt_to_keep: int | None) -> None:
        assert self.slept == 1
        Path(path).mkdir(parents=True)
        (Path(path) / "step").write_text(str(step))

    def abort(self) -> None:
        assert self.slept == 0  # a rollout engine with requests waits for them before it sleeps
        self.aborted += 1

    def on_sample_end(self) -> None:
        self.slept += 1

    def add_prompts(self, number: int) -> int:
        raise AssertionError("more prompts were requested")


FINE = {f"a_{i}_0": row(float(i)) for i in range(GROUP)}


def take_two_steps(trainer: Trainer, run: Any) -> Iterator[Any]:
    """Returns the training data, from the third step on."""
    data = iter(trainer.init().train_dataloader)
    for number in (1, 2):
        trainer.global_steps = number
        next(data)
        run(number, FINE)
    return data


def test_a_run_that_loses_too_much_ends_with_a_checkpoint_of_the_last_step_and_resumes_with_the_same_data(
    step: Any, tmp_path: Path
) -> None:
    import torch

    trainer = Trainer(tmp_path / "checkpoints")
    run = step(trainer.add_prompts)
    data = take_two_steps(trainer, run)
    trainer.global_steps = 3
    missed = next(data).tolist()
    with pytest.raises(TooManyUnscored, match=r"step 3: 4 of 4 .* The run will resume from a checkpoint of step 2"):
        run(3, {key: row(0.0, lost=True) for key in FINE})
    assert (tmp_path / "stopped.txt").read_text().count("\n") == 1
    assert (tmp_path / "checkpoints/latest_checkpointed_iteration.txt").read_text() == "2"
    assert (tmp_path / "checkpoints/global_step_2/actor/step").read_text() == "2"
    again = Trainer(tmp_path / "checkpoints").init().train_dataloader
    again.load_state_dict(torch.load(tmp_path / "checkpoints/global_step_2/data.pt", weights_only=False))
    assert next(iter(again)).tolist() == missed
    assert (trainer.global_steps, hasattr(trainer.train_dataloader, "batch_size")) == (3, True)
    written = (tmp_path / "rollouts/step_00003.jsonl").read_text().splitlines()
    assert [json.loads(line)["unscored"] for line in written] == [1.0] * GROUP


def test_a_checkpoint_that_cannot_be_saved_does_not_hide_why_the_run_ended(step: Any, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "checkpoints")
    run = step(trainer.add_prompts)
    trainer.init()
    run(1, FINE)
    (tmp_path / "checkpoints").write_text("not a folder")
    with pytest.raises(TooManyUnscored, match=r"4 proxy_timeout.*Saving step 1 failed too"):
        run(2, {key: row(0.0, lost=True) for key in FINE})


def test_without_a_finished_step_or_a_trainer_nothing_is_saved_and_the_message_says_so(step: Any) -> None:
    lost = {f"a_{i}_0": row(0.0, lost=True) for i in range(GROUP)}
    with pytest.raises(TooManyUnscored, match="No step was finished"):
        step()(1, lost)
    with pytest.raises(TooManyUnscored, match="from its last checkpoint"):
        step(time.sleep)(2, lost)


@pytest.mark.parametrize("partition", ["train", "val"])
def test_a_job_that_has_to_stop_while_rollouts_are_generated_saves_the_step_before_and_ends(
    step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition: str
) -> None:
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    from proxygrm.core.runtime.save_now import SaveNow
    from proxygrm.rl.plugins.sampler import RequeueRequested
    from proxygrm.rl.train import explain

    trainer, job = Trainer(tmp_path / "checkpoints"), SaveNow(tmp_path)
    run = step(trainer.add_prompts)
    take_two_steps(trainer, run)
    trainer.global_steps = 3 if partition == "train" else 2  # a step is validated before it is counted
    job.request()

    def waits(self: Any, global_steps: int, partition_id: str, batch_size: int) -> Any:
        return self._wait_for_next_poll(partition_id, 0.0)

    monkeypatch.setattr(ReplayBuffer, "sample", waits)
    with pytest.raises(RequeueRequested, match="The run will resume from a checkpoint of step 2"):
        run.buffer.sample(trainer.global_steps, partition, 1)
    assert (trainer.aborted, trainer.slept) == (1, 1)
    assert (tmp_path / "checkpoints/global_step_2/actor/step").read_text() == "2"
    assert job.read_answer() == "The run will resume from a checkpoint of step 2"
    assert "asked to save and stop. The run will resume from a checkpoint of step 2" in explain(tmp_path, "")
