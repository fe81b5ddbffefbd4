"""Real trainings of two steps of a tiny scalar reward model by ms-swift."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.checkpoints.scalar import is_scalar_checkpoint
from proxygrm.scalar.settings import RewardModelSettings
from proxygrm.sft.arguments import environment
from proxygrm.sft.merge import merge_lora
from proxygrm.sft.settings import SftSettings
from proxygrm.sft.train import train_sft
from support import swift_scores
from support.refusals import refused
from support.scalar_models import build_tiny_qwen2_vl, make_scalar

CHOSEN, REJECTED = "It is red.", "It is <|endoftext|> blue, or so I believe."
"""The padding token inside a text must not move the token that is scored."""
TWO_STEPS = replace(
    SftSettings.demo(),
    command="rlhf",
    rlhf_type="rm",
    max_steps=2,
    per_device_train_batch_size=2,
    save_steps=1,
    logging_steps=1,
    max_pixels=56 * 56,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny `model`, and `rows.jsonl` in ms-swift's layout: a chosen and a rejected response each."""
    from PIL import Image

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("inputs")
    build_tiny_model(folder / "model", demo_corpus(0, n=50))
    Image.new("RGB", (56, 56), "red").save(folder / "red.png")
    row = {
        "messages": [
            {"role": "user", "content": "<image>Which colour?"},
            {"role": "assistant", "content": CHOSEN},
        ],
        "rejected_response": REJECTED,
        "images": [str(folder / "red.png")],
    }
    (folder / "rows.jsonl").write_text((json.dumps(row) + "\n") * 8)
    return folder


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.heavy
def test_a_reward_model_trains_resumes_and_says_what_its_head_is(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "rm"

    def train(settings: SftSettings) -> Path:
        return train_sft(settings, inputs / "model", inputs / "rows.jsonl", out, device="cpu")

    model = train(TWO_STEPS)
    config = json.loads((model / "config.json").read_text())
    assert config["reward_head"] == {"layers": 2, "activation": "silu", "length_normalisation": False}
    assert config["architectures"] == ["Qwen2_5_VLForSequenceClassification"]
    assert list(config["id2label"]) == list(config["text_config"]["id2label"]) == ["0"]  # one label, in both
    assert is_scalar_checkpoint(model)
    trained = weights(model)
    head = {"score.dense.0.weight", "score.dense.0.bias", "score.out_proj.weight", "score.out_proj.bias"}
    assert {name for name in trained if "score" in name or "lm_head" in name} == head
    first = metrics(out)
    for row in first:  # rows are alike, so the means are those of each
        assert row["loss"] == pytest.approx(math.log1p(math.exp(-row["rewards/margins"])), rel=1e-4)

    # As after a preemption in step 2.
    shutil.rmtree(out / "swift" / "checkpoint-2")
    shutil.rmtree(model)
    again = weights(train(TWO_STEPS))
    assert again.keys() == trained.keys()
    assert all((again[name] == trained[name]).all() for name in trained)
    assert [row["step"] for row in metrics(out)] == [1, 2]

    with refused("sft.other-settings", names=["--proxygrm_reward_model"]):
        train(replace(TWO_STEPS, reward_model=RewardModelSettings(activation="tanh")))
    with refused("checkpoint.scalar", path=model):
        train_sft(replace(TWO_STEPS, command="sft", rlhf_type=""), model, inputs / "rows.jsonl", tmp_path / "sft")

    # The options, on the same first batch.
    options = RewardModelSettings(center_rewards_coefficient=0.5, length_normalisation=True, margin=0.25)
    changed = replace(TWO_STEPS, max_steps=1, reward_model=options)
    train_sft(changed, inputs / "model", inputs / "rows.jsonl", tmp_path / "options", device="cpu")
    (row,) = metrics(tmp_path / "options")
    chosen, rejected = row["rewards/chosen"], row["rewards/rejected"]
    tokens = [len(tokenizer(inputs)(text)["input_ids"]) for text in (CHOSEN, REJECTED)]
    assert chosen == pytest.approx(first[0]["rewards/chosen"] / math.log(tokens[0] + 1), rel=1e-3)
    assert rejected == pytest.approx(first[0]["rewards/rejected"] / math.log(tokens[1] + 1), rel=1e-3)
    expected = math.log1p(math.exp(-(chosen - rejected - 0.25))) + 0.5 * (chosen + rejected) ** 2
    assert row["loss"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.heavy
def test_the_scorer_gives_the_scores_of_ms_swifts_training(inputs: Path, tmp_path: Path) -> None:
    from PIL import Image

    from proxygrm.scalar.conversation import Item
    from proxygrm.scalar.scorer import Scorer

    model = make_scalar(inputs / "model", tmp_path / "scalar")
    image = inputs / "red.png"
    items = [
        Item("0", "Which colour?", ("It is red.", "It is blue, or so I believe. " * 3), (image,)),
        Item("1", "And which\nnumber?", ("Two:\n2", "No idea 🎈"), (image, image)),
    ]
    rows = []
    for item in items:
        user = {"role": "user", "content": "<image>" * len(item.images) + item.question}
        assistant = {"role": "assistant", "content": item.responses[0]}
        images = [str(path) for path in item.images]
        row = {"messages": [user, assistant], "rejected_response": item.responses[1].strip(), "images": images}
        rows.append(json.dumps(row) + "\n")
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    words = [sys.executable, swift_scores.__file__, str(model), str(tmp_path / "rows.jsonl")]
    done = subprocess.run(
        words, env=environment(TWO_STEPS, tmp_path, "cpu", {}) | dict(os.environ), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    expected = json.loads(done.stdout.decode().splitlines()[-1])
    decoded = [replace(item, images=tuple(Image.open(path).convert("RGB") for path in item.images)) for item in items]
    scores = {score.key: score.scores for score in Scorer(model, max_pixels=56 * 56).scores(decoded)}
    for number, pair in enumerate(expected):
        assert scores[str(number)] == pytest.approx(pair, abs=1e-5)


def tokenizer(inputs: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(inputs / "model")


@pytest.mark.heavy
def test_lora_trains_the_whole_head_and_the_merge_builds_it_again(inputs: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    start = build_tiny_qwen2_vl(inputs / "model", tmp_path / "qwen2_vl")  # a second architecture
    settings = replace(
        TWO_STEPS,
        model_type="qwen2_vl",
        tuner_type="lora",
        lora_rank=4,
        reward_model=RewardModelSettings(3, "tanh"),
    )
    adapter = train_sft(settings, start, inputs / "rows.jsonl", tmp_path / "rm", device="cpu")
    added = load_file(adapter / "adapter_model.safetensors")
    head = {name.removeprefix("base_model.model."): value for name, value in added.items() if ".score." in name}
    layers = ("dense.0", "dense.1", "out_proj")
    assert set(head) == {f"score.{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    model = merge_lora(start, adapter, tmp_path / "merge", device="cpu")
    merged = weights(model)
    assert json.loads((model / "config.json").read_text())["reward_head"]["layers"] == 3
    for name, value in head.items():
        assert (merged[name] == value).all()
    before = weights(start)
    assert {name for name in before if name not in merged} == {"lm_head.weight"}
    assert any((before[name] != merged[name]).any() for name in merged if name in before)
