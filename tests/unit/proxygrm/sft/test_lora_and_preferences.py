"""Real trainings of two steps with the tiny model: LoRA with its merge, and preferences; adapters that are damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from proxygrm.core.checkpoints.adapter import BASE_FILE, base_of, check_adapter, check_base
from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.core.checkpoints.kinds import kind_of
from proxygrm.sft.merge import _other_plugins, merge_lora
from proxygrm.sft.settings import SftSettings
from proxygrm.sft.train import train_sft
from support.refusals import refused
from support.small_checkpoints import shard, write_checkpoint

TWO_STEPS = replace(
    SftSettings.demo(), max_steps=2, per_device_train_batch_size=2, save_steps=1, logging_steps=1, max_pixels=56 * 56
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny `model`, and `rows.jsonl` in ms-swift's layout, each with a rejected response."""
    from PIL import Image

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("inputs")
    build_tiny_model(folder / "model", demo_corpus(0, n=50))
    Image.new("RGB", (56, 56), "red").save(folder / "red.png")
    question = {"role": "user", "content": "<image>Which colour?"}
    row = {
        "messages": [question, {"role": "assistant", "content": "It is red."}],
        "rejected_response": "It is blue.",
        "images": [str(folder / "red.png")],
    }
    (folder / "rows.jsonl").write_text((json.dumps(row) + "\n") * 8)
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    shard(folder / "adapter_model.safetensors")
    return folder


@pytest.mark.heavy
def test_lora_trains_an_adapter_and_the_merge_makes_a_whole_checkpoint(inputs: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file
    from transformers import AutoModelForImageTextToText, AutoProcessor

    settings = replace(TWO_STEPS, tuner_type="lora", lora_rank=4, step_judge=True, extra_args=("lora_dropout=0.0",))
    adapter = train_sft(settings, inputs / "model", inputs / "rows.jsonl", tmp_path / "sft", device="cpu")
    assert adapter == tmp_path / "sft" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 32.0, 0.0)
    steps = [json.loads(line)["step"] for line in (tmp_path / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
    assert json.loads((adapter / BASE_FILE).read_text()) == base_of(inputs / "model")

    model = merge_lora(inputs / "model", adapter, tmp_path / "merge", device="cpu")
    check_checkpoint(model)
    assert kind_of(model) == "process", "the marker of the training stays through the merge"
    assert {path.name for path in (tmp_path / "merge").iterdir()} == {"model", "swift.log"}
    before, after = (load_file(folder / "model.safetensors") for folder in (inputs / "model", model))
    assert before.keys() == after.keys()
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed
    assert all(".weight" in name for name in changed)
    assert not {name for name in changed if "embed" in name or "norm" in name}
    assert AutoModelForImageTextToText.from_pretrained(model).num_parameters() > 0
    assert AutoProcessor.from_pretrained(model).image_processor.size["longest_edge"] == 56 * 56


@pytest.mark.heavy
def test_dpo_trains_on_pairs_of_responses(inputs: Path, tmp_path: Path) -> None:
    settings = replace(TWO_STEPS, command="rlhf", rlhf_type="dpo", extra_args=("beta=0.2",))
    model = train_sft(settings, inputs / "model", inputs / "rows.jsonl", tmp_path / "dpo", device="cpu")
    check_checkpoint(model)
    rows = [json.loads(line) for line in (tmp_path / "dpo" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["rewards/margins"] == 0  # of the start checkpoint against itself


@pytest.mark.heavy
def test_the_best_checkpoint_is_kept_beside_the_last_and_a_training_that_gets_worse_is_stopped(
    inputs: Path, tmp_path: Path
) -> None:
    """It learns to say red, and is validated on blue: the loss falls with the first words, then rises."""
    row = json.loads((inputs / "rows.jsonl").read_text().splitlines()[0])
    del row["rejected_response"]
    red = json.dumps(row) + "\n"
    (tmp_path / "red.jsonl").write_text(8 * red)
    (tmp_path / "blue.jsonl").write_text(2 * red.replace("It is red", "It is blue"))
    settings = replace(
        TWO_STEPS, max_steps=60, save_steps=2, warmup_ratio=0.0, lr_scheduler_type="constant", early_stop=2
    )
    out = tmp_path / "sft"
    train_sft(settings, inputs / "model", tmp_path / "red.jsonl", out, "cpu", validation=tmp_path / "blue.jsonl")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["eval/loss"] for row in rows if "eval/loss" in row}
    best = min(losses, key=losses.__getitem__)
    note = json.loads((out / "best" / "best.json").read_text())
    assert (note["step"], note["value"]) == (best, pytest.approx(losses[best]))
    assert max(losses) == best + 2 * settings.save_steps < settings.max_steps
    for name, step in (("best", best), ("model", max(losses))):
        check_checkpoint(out / name)
        kept = out / "swift" / f"checkpoint-{step}" / "model.safetensors"
        assert (out / name / "model.safetensors").samefile(kept)
    last = rows[-1]["step"]
    train_sft(settings, inputs / "model", tmp_path / "red.jsonl", out, "cpu", validation=tmp_path / "blue.jsonl")
    assert json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"] == last, "nothing left to train"


@pytest.mark.parametrize("changes", [{"checkpoint": "best"}, {"early_stop": 3}])
def test_a_choice_needs_an_evaluation_and_room_for_two_checkpoints(changes: dict) -> None:
    settings = replace(SftSettings(), split_dataset_ratio=0.0, **changes)
    with refused("settings.contradiction"):
        settings.check_evaluated(validation=False)
    settings.check_evaluated(validation=True)
    if "checkpoint" in changes:
        with refused("settings.contradiction", setting="checkpoint=best"):
            replace(settings, save_total_limit=1)


def test_a_whole_adapter_passes(adapter: Path) -> None:
    check_adapter(adapter)


def test_a_damaged_adapter_is_refused_with_its_file(adapter: Path) -> None:
    shard(adapter / "adapter_model.safetensors", missing_bytes=4)
    with refused("checkpoint.damaged", file="adapter_model.safetensors"):
        check_adapter(adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with refused("checkpoint.incomplete", file="adapter_model.safetensors"):
        check_adapter(adapter)
    (adapter / "adapter_config.json").write_text("{}")
    with refused("checkpoint.damaged", file="adapter_config.json"):
        check_adapter(adapter)
    with refused("checkpoint.missing", path=adapter / "none"):
        check_adapter(adapter / "none")


def test_a_whole_model_is_not_taken_for_an_adapter(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    with refused("checkpoint.not-an-adapter", path=tmp_path):
        merge_lora(tmp_path, tmp_path, tmp_path / "out", device="cpu")


def test_an_adapter_with_code_or_a_pickle_is_not_merged(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    write_checkpoint(tmp_path / "start")
    (adapter / "modeling.py").write_text("raise SystemExit('it ran')")
    with refused("checkpoint.code", file="modeling.py"):
        merge_lora(tmp_path / "start", adapter, tmp_path / "out", device="cpu")


def test_an_adapter_without_ms_swifts_record_is_refused(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    write_checkpoint(tmp_path / "start")
    with refused("checkpoint.incomplete", path=adapter, file="args.json"):
        merge_lora(tmp_path / "start", adapter, tmp_path / "out", device="cpu")


@pytest.mark.parametrize("recorded", [True, False], ids=["by our record", "by the folder that peft names"])
def test_an_adapter_of_another_checkpoint_is_not_merged(adapter: Path, tmp_path: Path, recorded: bool) -> None:
    """It would be added to weights that it was not trained on, and nothing would fail."""
    for name, text in (("base", "a"), ("start", "b")):
        (tmp_path / name).mkdir()
        write_checkpoint(tmp_path / name)
        config = tmp_path / name / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"about": text}))
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "base")}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    if recorded:
        (adapter / BASE_FILE).write_text(json.dumps(base_of(tmp_path / "base")))
    with refused("checkpoint.other-base", path=adapter, start=tmp_path / "start", named=str(tmp_path / "base")):
        merge_lora(tmp_path / "start", adapter, tmp_path / "out", device="cpu")
    check_base(adapter, tmp_path / "base")
    copied = tmp_path / "elsewhere"
    (tmp_path / "base").rename(copied)
    check_base(adapter, copied)


def test_without_a_record_and_without_the_named_base_nothing_is_refused(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    write_checkpoint(tmp_path / "start")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Some-7B"}')
    check_base(adapter, tmp_path / "start")


def test_the_merge_loads_the_plugins_of_the_training_but_not_an_old_copy_of_the_suites(adapter: Path) -> None:
    plugins = ["/old/code/proxygrm/sft/plugin.py", "/mine/plugin.py"]
    (adapter / "args.json").write_text(json.dumps({"external_plugins": plugins}))
    assert _other_plugins(adapter) == ["/mine/plugin.py"]
