"""The last N checkpoints of a fine-tuning stay, also after a resume."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from proxygrm.sft.checkpoints import clean_up, last_checkpoint
from support.small_checkpoints import write_checkpoint


def save(work: Path, step: int) -> Path:
    folder = work / f"checkpoint-{step}"
    folder.mkdir()
    write_checkpoint(folder)
    (folder / "trainer_state.json").write_text('{"global_step": 1, "max_steps": 2}')
    os.utime(folder, (step * 10, step * 10))
    return folder


def kept(work: Path) -> list[str]:
    return sorted(path.name for path in work.iterdir())


def test_before_a_resume_unfinished_saves_go_and_torn_ones_are_moved_aside(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    (tmp_path / "checkpoint-40" / "model.safetensors").write_bytes(b"torn")
    save(tmp_path, 50)
    (tmp_path / "checkpoint-50" / "trainer_state.json").unlink()
    (tmp_path / "checkpoint-notes").mkdir()
    last = last_checkpoint(tmp_path)
    assert last == tmp_path / "checkpoint-30"
    clean_up(tmp_path, last, keep=2)
    assert kept(tmp_path) == ["checkpoint-20", "checkpoint-30", "checkpoint-notes", "torn_checkpoint-40"]
    assert last_checkpoint(tmp_path) == last


def test_checkpoints_are_ordered_by_their_steps_not_their_names(tmp_path: Path) -> None:
    for step in (12, 9, 100):
        save(tmp_path, step)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    clean_up(tmp_path, tmp_path / "checkpoint-12", keep=1)
    assert kept(tmp_path) == ["checkpoint-12", "torn_checkpoint-100"]


def test_the_best_is_one_of_those_that_stay(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    state = {"global_step": 40, "max_steps": 90, "best_model_checkpoint": "/moved/since/checkpoint-10"}
    (tmp_path / "checkpoint-40" / "trainer_state.json").write_text(json.dumps(state))
    clean_up(tmp_path, last_checkpoint(tmp_path), keep=2)
    assert kept(tmp_path) == ["checkpoint-10", "checkpoint-40"]


def test_without_one_to_resume_from_nothing_is_in_the_way(tmp_path: Path) -> None:
    save(tmp_path, 10)
    (tmp_path / "checkpoint-10" / "trainer_state.json").unlink()
    clean_up(tmp_path, None, keep=2)
    assert kept(tmp_path) == []


@pytest.mark.heavy
@pytest.mark.parametrize("keep", [1, 2])
def test_the_trainer_counts_those_of_earlier_attempts(tmp_path: Path, keep: int) -> None:
    from transformers.trainer_utils import rotate_checkpoints

    for step in (10, 20, 30):
        save(tmp_path, step)
    clean_up(tmp_path, last_checkpoint(tmp_path), keep)
    for step in (40, 50):
        save(tmp_path, step)
        assert len(kept(tmp_path)) <= keep + 1
        rotate_checkpoints(str(tmp_path), keep, use_mtime=True)
        assert len(kept(tmp_path)) == keep
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-50"
