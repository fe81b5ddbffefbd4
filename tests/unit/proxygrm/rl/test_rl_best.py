"""Which checkpoint of an RL training was best by its validation, and when it is stopped early."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.engine.request import Request
from jobs.recipes import resolve
from jobs.stages.training import rl
from proxygrm.core.checkpoints.best import Best, read_best
from proxygrm.core.runtime.save_now import SaveNow
from proxygrm.rl.best import keep_best, with_validation, without_progress
from proxygrm.rl.config import RlSettings
from proxygrm.rl.train import finish, look, stopped_early
from support.refusals import refused
from support.rl.trained_folder import checkpoint, metrics_file, start

SETTINGS = RlSettings.demo(max_steps=8)


def scored(step: int, score: float, **others: float) -> tuple[int, dict[str, float]]:
    """A step with its validation on two sources, whose mean counts."""
    values = {"score": score, **others}
    metrics = {f"val-core/a/{name}/mean@1": value - 0.5 for name, value in values.items()}
    metrics |= {f"val-aux/b/{name}/mean@1": value + 0.5 for name, value in values.items()}
    return step, {"training/global_step": step, **metrics}


def rows(*steps: tuple[int, dict[str, float]]) -> list[dict[str, float]]:
    return [with_validation({"step": step, **data}) for step, data in steps]


def weights_of(folder: Path) -> int:
    return int(json.loads((folder / "model.safetensors").read_text())["step"])


def test_the_mean_over_sources_is_written_into_the_metrics(tmp_path: Path) -> None:
    metrics_file(tmp_path, 0, [(0, scored(0, 0.25)[1])])
    checkpoint(tmp_path, 2)
    metrics_file(tmp_path, 1, [scored(2, 0.5, accuracy=0.125)])
    look(tmp_path, replace(SETTINGS, eval_steps=2), "")
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["validation/score"] for row in written] == [0.25, 0.5]
    assert written[1]["validation/accuracy"] == 0.125


def test_a_better_checkpoint_replaces_the_best_and_stays_when_verl_deletes_its_own(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        checkpoint(tmp_path, step)
    assert keep_best(tmp_path, rows(scored(0, 9.0)), "score") is None, "the start has no checkpoint here"
    assert keep_best(tmp_path, rows(scored(2, 0.25)), "score") == Best(2, 0.25, "score")
    assert keep_best(tmp_path, rows(scored(2, 0.25), scored(4, 0.75)), "score") == Best(4, 0.75, "score")
    shutil.rmtree(tmp_path / "checkpoints" / "global_step_4")
    assert keep_best(tmp_path, rows(scored(2, 0.25), scored(4, 0.75), scored(6, 0.75)), "score") == Best(
        4, 0.75, "score"
    )
    assert weights_of(tmp_path / "best") == 4
    assert keep_best(tmp_path, rows(scored(8, 5.0)), "score") == Best(4, 0.75, "score"), "step 8 is not saved"


def test_both_are_published_in_the_precision_of_the_start(tmp_path: Path) -> None:
    metrics_file(tmp_path, 0, [scored(2, 1.0), scored(4, 0.125)])
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 4)
    policy = finish(tmp_path, start(tmp_path), replace(SETTINGS, eval_steps=2))
    assert (weights_of(policy), weights_of(tmp_path / "best")) == (4, 2)
    assert read_best(tmp_path) == Best(2, 1.0, "score")
    for folder in (policy, tmp_path / "best"):
        assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    kept = tmp_path / "checkpoints" / "global_step_2" / "actor" / "huggingface" / "config.json"
    assert json.loads(kept.read_text())["dtype"] == "bfloat16", "verl resumes from it"


def test_where_no_validation_has_a_checkpoint_the_last_stands_for_the_best(tmp_path: Path) -> None:
    metrics_file(tmp_path, 0, [scored(2, float("nan"))])
    checkpoint(tmp_path, 2)
    finish(tmp_path, start(tmp_path), replace(SETTINGS, eval_steps=2))
    assert weights_of(tmp_path / "best") == 2


def test_another_number_of_the_reward_can_decide_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    for step in (2, 4):
        checkpoint(tmp_path, step)
    steps = rows(scored(2, 1.0, accuracy=0.125), scored(4, 0.125, accuracy=0.5))
    assert keep_best(tmp_path, steps, "accuracy") == Best(4, 0.5, "accuracy")
    assert keep_best(tmp_path, steps, "score") == Best(2, 1.0, "score"), "the other number's best is gone"
    with refused("rl.unknown-number", name="acuracy", known=["score", "accuracy"]):
        keep_best(tmp_path, steps, "acuracy")


def test_progress_is_counted_from_before_training() -> None:
    assert without_progress([], "score") == 0
    assert without_progress(rows(scored(0, 0.5)), "score") == 0
    assert without_progress(rows(scored(0, 0.5), scored(2, 0.4), scored(4, 0.5)), "score") == 2
    assert without_progress(rows(scored(0, 0.5), scored(2, 0.4), scored(4, 0.6)), "score") == 0


def test_a_training_without_progress_is_asked_to_save_and_stop_once(tmp_path: Path) -> None:
    settings = replace(SETTINGS, eval_steps=2, early_stop=2)
    metrics_file(tmp_path, 0, [scored(0, 0.5), scored(2, 0.4)])
    checkpoint(tmp_path, 2)
    look(tmp_path, settings, "")
    assert not SaveNow(tmp_path).is_requested()
    metrics_file(tmp_path, 0, [scored(0, 0.5), scored(2, 0.4), scored(4, 0.3)])
    look(tmp_path, settings, "")
    assert SaveNow(tmp_path).is_requested()
    assert stopped_early(tmp_path)
    look(tmp_path, replace(settings, early_stop=0), "")


def test_what_an_early_stop_left_is_published_without_starting_a_trainer(tmp_path: Path) -> None:
    settings = replace(SETTINGS, eval_steps=2, early_stop=1)
    metrics_file(tmp_path, 0, [scored(0, 0.5), scored(2, 0.4)])
    checkpoint(tmp_path, 2)
    look(tmp_path, settings, "")
    inputs = {"policy": start(tmp_path)}
    for rank, published in ((1, False), (0, True)):  # without a cluster, anything else would fail
        rl.train(SimpleNamespace(rank=rank, inputs=inputs), settings, tmp_path)  # type: ignore[arg-type]
        assert (tmp_path / "policy" / "config.json").exists() is published


@pytest.mark.parametrize("changes", [{"checkpoint": "best"}, {"early_stop": 3}])
def test_a_choice_needs_a_validation(changes: dict) -> None:
    with refused("settings.contradiction"):
        RlSettings(eval_steps=0, **changes)


def test_choosing_another_checkpoint_trains_nothing_again() -> None:
    last, best = (
        {stage.name: stage for stage in resolve(Request(assignments=choice)).stages}
        for choice in (
            ("grm_rl.eval_steps=2", "grm_rl.save_steps=2"),
            ("grm_rl.eval_steps=2", "grm_rl.save_steps=2", "grm_rl.checkpoint=best", "grm_sft.checkpoint=best"),
        )
    )
    assert last["grm_sft"].fingerprint() == best["grm_sft"].fingerprint()
    assert last["grm_rl"].needs["policy"].path == "model"
    assert best["grm_rl"].needs["policy"].path == "best"
    assert best["evaluate"].needs["rl"].path == "best"
    assert {made.path for made in last["grm_rl"].makes} == {"policy", "best", "metrics.jsonl"}
