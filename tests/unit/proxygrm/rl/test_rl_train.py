"""What the RL job does before and after verl: command, progress, metrics of several attempts, the policy."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from proxygrm.rl.checkpoints import clean_up, last_checkpoint
from proxygrm.rl.config import RlSettings
from proxygrm.rl.train import collect_metrics, explain, finish, progress, train_grpo_command
from support.refusals import refused
from support.rl.trained_folder import checkpoint, metrics_file, start

LAST = RlSettings(eval_steps=0)


def trained(step: int, loss: float) -> tuple[int, dict[str, float]]:
    return step, {"training/global_step": step, "loss": loss}


def test_a_later_attempt_replaces_the_steps_it_did_again(tmp_path: Path) -> None:
    metrics_file(tmp_path, 0, [trained(1, 1.0), trained(2, 2.0), trained(3, 3.0)], tail='{"step": 4, "da')
    metrics_file(tmp_path, 1, [trained(2, 20.0)])
    assert [(row["step"], row["loss"]) for row in collect_metrics(tmp_path)] == [(1, 1.0), (2, 20.0)]
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in written] == [1, 2]


def test_validation_before_resuming_adds_to_the_step_it_is_about(tmp_path: Path) -> None:
    metrics_file(tmp_path, 0, [trained(1, 1.0), trained(2, 2.0)])
    metrics_file(tmp_path, 1, [(2, {"val": 0.5}), trained(3, 3.0)])
    rows = collect_metrics(tmp_path)
    assert [row["loss"] for row in rows] == [1.0, 2.0, 3.0]
    assert rows[1]["val"] == 0.5


def test_an_attempt_that_died_before_its_first_step_changes_nothing(tmp_path: Path) -> None:
    metrics_file(tmp_path, 0, [trained(1, 1.0)])
    (tmp_path / "verl_metrics" / "attempt_001.jsonl").write_text("")
    assert [row["loss"] for row in collect_metrics(tmp_path)] == [1.0]


def test_the_policy_is_the_last_checkpoint_and_replaces_an_older_one(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    checkpoint(tmp_path, 10)
    finish(tmp_path, start(tmp_path), LAST)
    policy = finish(tmp_path, start(tmp_path), LAST)
    assert json.loads((policy / "model.safetensors").read_text())["step"] == 10
    assert not (tmp_path / "policy.tmp").exists()


def test_the_policy_is_loaded_in_the_precision_of_its_start_model(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    policy = finish(tmp_path, start(tmp_path), LAST)
    assert json.loads((policy / "config.json").read_text()) == {"step": 10, "dtype": "float32"}
    kept = tmp_path / "checkpoints" / "global_step_10" / "actor" / "huggingface" / "config.json"
    assert json.loads(kept.read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("name", "word"),
    [("model.safetensors", "weights"), ("processor_config.json", "processor"), ("tokenizer.json", "tokenizer")],
)
def test_an_incomplete_checkpoint_is_not_called_a_policy(tmp_path: Path, name: str, word: str) -> None:
    checkpoint(tmp_path, 5, leave_out=name)
    with refused("checkpoint.incomplete", missing=[word], step=5):
        finish(tmp_path, start(tmp_path), LAST)
    assert not (tmp_path / "policy").exists()


def test_a_training_without_checkpoint_has_no_policy(tmp_path: Path) -> None:
    with refused("rl.no-checkpoint", path=tmp_path / "checkpoints"):
        finish(tmp_path, start(tmp_path), LAST)


def test_an_attempt_starts_without_unfinished_or_old_saves_of_earlier_ones(tmp_path: Path) -> None:
    for step in (9, 2, 6, 4):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("6", encoding="utf-8")
    (tmp_path / "checkpoints" / "global_step_notes").mkdir()
    clean_up(tmp_path / "checkpoints", keep=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("global_step_*"))
    assert names == ["global_step_4", "global_step_6", "global_step_notes"]
    clean_up(tmp_path / "nothing here", keep=2)


def test_progress_is_read_from_the_console() -> None:
    log = "ray init kwargs: ...\nTraining Progress:   0%|     | 0/8 [00:00]\rTraining Progress:  25%|##   | 2/8 [00:30]"
    assert progress(log) == (2, 8, "first rollouts")
    assert progress(log, [{"step": 2, "reward/score_mean": 0.5, "reward/proxy_agreement": 0.75}]) == (
        2,
        8,
        "score +0.50, proxy agrees 75%",
    )
    assert progress("") == (0, 0, "starting")


def test_an_empty_training_set_is_explained_in_words(tmp_path: Path) -> None:
    assert "max_prompt_length" in explain(
        tmp_path, "ValueError: num_samples should be a positive integer, got num_samples=0"
    )
    (tmp_path / "stopped.txt").write_text("step 3: 9 of 10 rollouts have no reward\n")
    assert explain(tmp_path, "num_samples=0") == "step 3: 9 of 10 rollouts have no reward"


def test_a_missing_model_is_named_before_anything_starts(tmp_path: Path) -> None:
    with refused("file.missing", path=tmp_path / "nowhere"):
        train_grpo_command(
            RlSettings.demo(),
            model=tmp_path / "nowhere",
            train_file=tmp_path,
            val_file=tmp_path,
            out=tmp_path / "out",
            ray_address="127.0.0.1:6379",
            nnodes=1,
            gpus_per_node=1,
            run_name="x",
        )
    assert not (tmp_path / "out").exists()


def torch_file(path: Path) -> Path:
    """As torch.save writes it: an archive, its list of contents at the end."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data/0", bytes(5000))
    return path


def half_of(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


@pytest.mark.parametrize("pointer", ["6", "", "\0"])
def test_a_last_checkpoint_that_a_crash_has_torn_is_skipped_for_the_one_before(tmp_path: Path, pointer: str) -> None:
    folder = tmp_path / "checkpoints"
    for step in (2, 4, 6):
        checkpoint(tmp_path, step)
        torch_file(folder / f"global_step_{step}" / "actor" / "optim_world_size_1_rank_0.pt")
    (folder / "latest_checkpointed_iteration.txt").write_text(pointer)
    assert last_checkpoint(tmp_path) == (6, folder / "global_step_6")
    half_of(folder / "global_step_6" / "actor" / "optim_world_size_1_rank_0.pt")
    assert last_checkpoint(tmp_path) == (4, folder / "global_step_4")
    clean_up(folder, keep=2)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["global_step_2", "global_step_4", "latest_checkpointed_iteration.txt", "torn_global_step_6"]
    assert (folder / "latest_checkpointed_iteration.txt").read_text() == "4", "what verl resumes from"


def test_if_every_checkpoint_is_torn_the_training_starts_over_and_nothing_is_deleted(tmp_path: Path) -> None:
    checkpoint(tmp_path, 6)
    (tmp_path / "checkpoints" / "global_step_6" / "data.pt").write_bytes(bytes(100))
    clean_up(tmp_path / "checkpoints", keep=2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["torn_global_step_6"]
    assert last_checkpoint(tmp_path) is None
