"""The sentences of this room's errors, once each; other tests compare codes and values."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from proxygrm.sft import train
from proxygrm.sft.settings import SftSettings
from support.refusals import refused
from support.small_checkpoints import write_checkpoint


def run(path: Path, dataset: str, monkeypatch: pytest.MonkeyPatch, ended: Callable[[], None]) -> None:
    """`train_sft` with a small checkpoint; `ended` takes the place of ms-swift."""
    (path / "model").mkdir()
    write_checkpoint(path / "model")
    (path / "empty.jsonl").write_text("")
    (path / "rows.jsonl").write_text("{}\n")
    monkeypatch.setattr(train, "run_swift", lambda *_: ended())
    train.train_sft(SftSettings.demo(), path / "model", path / dataset, path / "out", device="cpu")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"split_dataset_ratio": 1}, "sft: split_dataset_ratio is 1; no rows would be left to train on"),
        ({"max_steps": 0}, "sft: max_steps is 0; it must be at least 1, or none for whole epochs"),
        (
            {"deepspeed": "zero9"},
            "sft: deepspeed is 'zero9'; it must be one of zero0, zero1, zero2, zero2_offload, zero3, zero3_offload, a "
            "DeepSpeed .json, or empty",
        ),
    ],
)
def test_an_invalid_setting_says_what_is_valid(changes: dict, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        SftSettings(**changes)
    assert str(caught.value) == sentence
    assert caught.value.code


@pytest.mark.parametrize("dataset", ["none.jsonl", "empty.jsonl"])
def test_missing_or_empty_training_rows_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    with refused("sft.no-rows", path=tmp_path / dataset) as caught:
        run(tmp_path, dataset, monkeypatch, lambda: None)
    assert str(caught.value) == (
        f"sft: the training rows {tmp_path / dataset} are missing or empty; run the stage that writes them first"
    )


def test_a_training_without_a_checkpoint_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("sft.no-checkpoint", path=tmp_path / "out" / "swift") as caught:
        run(tmp_path, "rows.jsonl", monkeypatch, lambda: None)
    out = tmp_path / "out"
    assert str(caught.value) == (
        f"sft: ms-swift succeeded but left no checkpoint in {out / 'swift'}; see {out / 'swift.log'}"
    )


def test_a_requested_save_ends_the_stage_with_where_it_will_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save() -> None:
        train.SaveNow(tmp_path / "out").answer("The run will resume from a checkpoint of step 5")

    with refused("sft.stopped", path=tmp_path / "out") as caught:
        run(tmp_path, "rows.jsonl", monkeypatch, save)
    assert str(caught.value) == (
        "sft: it was asked to save and stop. The run will resume from a checkpoint of step 5; submit again to resume"
    )


def test_checkpoints_of_other_settings_are_refused_with_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "last_checkpoint", lambda work: work)
    file = tmp_path / "arguments.json"
    file.write_text(json.dumps(["--seed", "1", "--max_length", "512", "--report_to", "none"]))
    train._same_arguments(file, ["--seed", "1", "--max_length", "512", "--report_to", "swanlab"])
    with refused("sft.other-settings", path=tmp_path, names=["--seed"]) as caught:
        train._same_arguments(file, ["--seed", "2", "--max_length", "512"])
    assert str(caught.value) == (
        f"sft: {tmp_path} has checkpoints of a training with other settings (--seed); train into another folder, or "
        "remove this one"
    )


def test_a_failed_training_names_its_reason_and_log(tmp_path: Path) -> None:
    code = "import sys; sys.exit('ValueError: no such template')"
    with pytest.raises(UserError) as caught:
        train.run_swift([sys.executable, "-c", code], {}, tmp_path / "swift.log", lambda *_: None)
    assert (caught.value.code, caught.value.values["exit_code"]) == ("sft.failed", 1)
    log = tmp_path / "swift.log"
    assert str(caught.value) == f"ms-swift failed (1): ValueError: no such template; full log in {log}"
