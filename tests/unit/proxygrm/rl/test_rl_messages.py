"""The sentences of this room's errors, once each; other tests compare codes and values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from proxygrm.rl.config import RlSettings
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.step_rollouts import why_stop
from proxygrm.rl.train import explain, finish, train_grpo_command
from support.rl.verl_overrides import overrides


def options(path: Path, text: str) -> RewardOptions:
    (path / "options.json").write_text(text)
    return RewardOptions.read(path / "options.json")


def command(path: Path, **files: Path) -> None:
    paths = {"model": path, "train_file": path, "val_file": path, **files}
    rest = {"ray_address": "h:1", "nnodes": 1, "gpus_per_node": 1, "run_name": "x"}
    train_grpo_command(RlSettings.demo(), out=path / "out", **paths, **rest)  # type: ignore[arg-type]


def finished(path: Path) -> None:
    folder = path / "checkpoints" / "global_step_5" / "actor" / "huggingface"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    (path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("5")
    finish(path, path, RlSettings())


def settings(**changes: object) -> None:
    dataclasses.replace(RlSettings.paper(), **changes)  # type: ignore[arg-type]


GOOD = {"rollouts": "r", "stop_file": "s", "group_size": 2, "endpoints": "e"}
ERRORS = [
    (lambda p: settings(max_steps=0), "rl: max_steps is 0; it must be at least 1, or none for whole epochs"),
    (
        lambda p: settings(kl_loss_type="x"),
        "rl: kl_loss_type is 'x'; it must be one of low_var_kl, k3, kl, k1, mse, k2, abs",
    ),
    (
        lambda p: settings(train_batch_size=10, ppo_mini_batch_size=4),
        "rl: train_batch_size 10 is not a multiple of ppo_mini_batch_size 4",
    ),
    (lambda p: settings(n=1), "rl: n is 1; grpo compares rollouts of one prompt and needs at least 2"),
    (
        lambda p: RlSettings.paper().fitted(7 * 1024),
        "rl: ppo_mini_batch_size 128 x n 8 rollouts cannot be shared by 7168 devices; raise ppo_mini_batch_size to "
        "896 or use fewer nodes",
    ),
    (
        lambda p: RlSettings.paper().check_against(rows=100, devices=8),
        "rl: 100 training rows do not fill one batch of 256; lower train_batch_size",
    ),
    (
        lambda p: RlSettings.paper().check_against(rows=1000, devices=3),
        "rl: ppo_mini_batch_size 128 x n 8 rollouts cannot be shared by 3 devices",
    ),
    (
        lambda p: RlSettings.paper().check_against(rows=1000, devices=1),
        "rl: 1 devices are not a multiple of tensor_parallel_size 2",
    ),
    (lambda p: overrides(RlSettings.paper(), "tpu"), "rl: device is 'tpu'; it must be cuda or cpu"),
    (
        lambda p: overrides(RlSettings.paper(), ray_address="auto"),
        "rl: Ray's address is 'auto'; it must be HOST:PORT",
    ),
    (
        lambda p: RewardOptions("r", "s", 2),
        "reward options: proxy_agreement asks the proxy, but endpoints names no file",
    ),
    (
        lambda p: options(p, "{"),
        "reward options: cannot read {p}/options.json: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ),
    (
        lambda p: options(p, json.dumps({**GOOD, "group_sise": 1})),
        "reward options ({p}/options.json): unknown key 'group_sise'; did you mean 'group_size'?",
    ),
    (
        lambda p: options(p, json.dumps({**GOOD, "group_size": "2"})),
        "reward options ({p}/options.json): group_size: expected int, got '2'",
    ),
    (
        lambda p: options(p, '{"rollouts": "r", "stop_file": "s"}'),
        "reward options ({p}/options.json): RewardOptions.__init__() missing 1 required positional argument: "
        "'group_size'",
    ),
    (lambda p: command(p, model=p / "none"), "rl: the model {p}/none does not exist"),
    (lambda p: command(p, train_file=p / "none"), "rl: the training file {p}/none does not exist"),
    (lambda p: command(p, val_file=p / "none"), "rl: the validation file {p}/none does not exist"),
    (lambda p: finish(p, p, RlSettings()), "rl: the training left no checkpoint in {p}/checkpoints; see its log"),
    (
        finished,
        "rl: the checkpoint of step 5 ({p}/checkpoints/global_step_5/actor/huggingface) has no tokenizer, processor",
    ),
]


@pytest.mark.parametrize(("act", "sentence"), ERRORS)
def test_every_error_says_what_where_and_what_to_do(
    tmp_path: Path, act: Callable[[Path], object], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        act(tmp_path)
    assert str(caught.value) == sentence.format(p=tmp_path)
    assert caught.value.code


def rows(problem: str, count: int) -> list[dict]:
    row = {"unscored": 1.0, "problem": problem, "group": "a"}
    return [row] * count + [{"unscored": 0.0, "problem": "", "group": "b"}] * (10 - count)


@pytest.mark.parametrize(
    ("problem", "count", "sentence"),
    [
        (
            "label_mismatch",
            1,
            "1 rollouts have a label in extra_info that differs from reward_model.ground_truth, or is not 1 or 2: the "
            "training file is inconsistent, convert it again",
        ),
        (
            "proxy_timeout",
            5,
            "5 of 10 rollouts have lost their reward (5 proxy_timeout); the limit is 2% (max_unscored). Look at the "
            "proxy's log",
        ),
        (
            "proxy_image_missing",
            5,
            "5 of 10 rollouts have lost their reward (5 proxy_image_missing); the limit is 2% (max_unscored). "
            "`proxygrm data check` on the training file names the images",
        ),
        (
            "proxy_unparsed",
            5,
            "the proxy gave no verdict on 5 of 10 rollouts (5 proxy_unparsed); the limit is 10% (max_no_verdict). "
            "Train the proxy for longer, or raise its max_tokens if answers are cut off",
        ),
    ],
)
def test_a_step_that_stops_the_run_says_why(problem: str, count: int, sentence: str) -> None:
    assert why_stop(rows(problem, count), 10, 0.02, 0.1) == sentence


def test_a_step_without_two_scored_rollouts_of_a_prompt_says_so() -> None:
    alone = [{"unscored": 0.0, "problem": "", "group": str(number)} for number in range(4)]
    assert why_stop(alone, 4, 0.02, 0.1) == "no prompt of the step has two rollouts with a reward (0 of 4 have none)"


def test_known_failures_of_the_trainer_are_explained(tmp_path: Path) -> None:
    for text, sentence in (
        ("num_samples=0", "every training prompt is longer than max_prompt_length, or its image could not be read"),
        (
            "no room to generate",
            "a prompt fills the model's whole context; raise max_response_length or lower max_prompt_length",
        ),
        (
            "CUDA out of memory",
            "the GPU ran out of memory; lower ppo_micro_batch_size_per_gpu or gpu_memory_utilization",
        ),
        ("something else", ""),
    ):
        assert explain(tmp_path, f"... {text} ...") == sentence


def test_options_have_every_limit_of_the_settings() -> None:
    names = {field.name for field in dataclasses.fields(RewardOptions)}
    assert {"max_unscored", "max_no_verdict", "reward"} <= names
