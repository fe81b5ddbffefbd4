"""ms-swift's arguments and environment, following a training's files, and the real argument class."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proxygrm.core.checkpoints.attention import FLASH
from proxygrm.sft.arguments import by_name, command, environment, swift_arguments
from proxygrm.sft.checkpoints import last_checkpoint, publish
from proxygrm.sft.metrics import collect_metrics
from proxygrm.sft.settings import SftSettings
from proxygrm.sft.train import train_sft, with_remedy
from support.refusals import refused


def arguments(settings: SftSettings, device: str = "cuda", **more: object) -> dict[str, str]:
    words = swift_arguments(settings, Path("/m"), Path("/d/rows.jsonl"), Path("/o/swift"), device, **more)  # type: ignore[arg-type]
    return {name: " ".join(values) for name, values in by_name(words).items()}


def test_the_papers_values_reach_ms_swift() -> None:
    values = arguments(replace(SftSettings.paper(), attn_implementation=FLASH))
    wanted = {
        "--tuner_type": "full",
        "--freeze_vit": "false",
        "--freeze_aligner": "false",
        "--freeze_llm": "false",
        "--learning_rate": "5e-06",
        "--num_train_epochs": "1",
        "--max_steps": "-1",
        "--per_device_train_batch_size": "2",
        "--max_length": "8192",
        "--warmup_ratio": "0.05",
        "--deepspeed": "zero2",
        "--torch_dtype": "bfloat16",
        "--attn_impl": "flash_attention_2",
        "--split_dataset_ratio": "0.01",
        "--save_steps": "100",
        "--report_to": "swanlab",
    }
    assert {name: values[name] for name in wanted} == wanted
    assert environment(SftSettings.paper(), Path("/o"), given={})["MAX_PIXELS"] == "1003520"


def test_on_a_cpu_there_is_no_deepspeed_and_no_mixed_precision() -> None:
    values = arguments(SftSettings.demo(), device="cpu")
    assert "--deepspeed" not in arguments(SftSettings.paper(), device="cpu")
    assert (values["--torch_dtype"], values["--bf16"], values["--fp16"]) == ("float32", "false", "false")
    assert environment(SftSettings.demo(), Path("/o"), "cpu", given={})["CUDA_VISIBLE_DEVICES"] == ""


def test_swanlab_is_local_unless_online_and_its_key_is_never_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWANLAB_API_KEY", "swan-secret")
    assert arguments(SftSettings.demo())["--swanlab_mode"] == "local"
    assert arguments(SftSettings.demo(), tracking="online")["--swanlab_mode"] == "cloud"
    assert "swan-secret" not in str(arguments(SftSettings.demo(), tracking="online"))


def test_gpus_get_a_process_each_and_a_cpu_needs_no_launcher() -> None:
    assert command(["--seed", "1"], "cpu")[1:] == ["-m", "proxygrm.sft.here", "sft", "--seed", "1"]
    for gpus in (1, 8):
        words = command(["--seed", "1"], "cuda", gpus)
        assert words[1:5] == ["-m", "proxygrm.sft.launch", "--nproc_per_node", str(gpus)]
        assert words[5:] == ["-m", "swift.cli.sft", "--seed", "1"]


def test_the_sites_thread_count_and_hub_mode_are_kept() -> None:
    variables = environment(SftSettings.paper(), Path("/o"), given={"OMP_NUM_THREADS": "3", "HF_HUB_OFFLINE": "0"})
    assert (variables["OMP_NUM_THREADS"], variables["HF_HUB_OFFLINE"]) == ("3", "0")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0),
        ("max_steps", 0),
        ("split_dataset_ratio", 1.0),
        ("torch_dtype", "half"),
        ("max_length", -1),
        ("lr_scheduler_type", "foo"),
        ("deepspeed", "zero9"),
        ("attn_implementation", "flesh"),
    ],
)
def test_an_invalid_setting_is_named(name: str, value: object) -> None:
    code = "settings.unknown-value" if isinstance(value, str) else "settings.out-of-range"
    with refused(code, name=name, value=value):
        replace(SftSettings.demo(), **{name: value})


def test_a_missing_start_checkpoint_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with refused("checkpoint.missing", path=tmp_path / "none"):
        train_sft(SftSettings.demo(), tmp_path / "none", tmp_path / "rows.jsonl", tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_metrics_count_a_step_once_after_a_resume_and_leave_out_the_summary(tmp_path: Path) -> None:
    def row(step: int, loss: float, **more: object) -> str:
        return json.dumps({"loss": loss, "global_step/max_steps": f"{step}/6", "elapsed_time": "3s", **more})

    lines = [row(2, 3.0), row(4, 2.0), '{"loss": 1', row(4, 1.5), json.dumps({"global_step/max_steps": "4/6",
             "eval_loss": 1.6}), row(6, 1.0), json.dumps({"global_step/max_steps": "5/6",
             "train_runtime": 9.0}), json.dumps({"last_model_checkpoint": "x"})]  # fmt: skip
    (tmp_path / "swift").mkdir()
    (tmp_path / "swift" / "logging.jsonl").write_text("\n".join(lines))
    collect_metrics(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [
        {"step": 2, "loss": 3.0},
        {"step": 4, "loss": 1.5, "eval/loss": 1.6},
        {"step": 6, "loss": 1.0},
    ]


def test_a_failure_by_lack_of_memory_comes_with_its_remedy() -> None:
    assert with_remedy("ValueError: x") == "ValueError: x"
    line = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert "per_device_train_batch_size" in with_remedy(line)


def test_a_checkpoint_that_is_still_being_written_is_not_resumed_from(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "config.json").write_text("{}")
    assert last_checkpoint(tmp_path) is None


_PARSE = """
import dataclasses, json, sys
from pathlib import Path
import swift
from swift.arguments import SftArguments
from swift.utils import parse_args

known = {field.name for field in dataclasses.fields(SftArguments)}
found = []
for argv in json.loads(sys.stdin.read()):
    given = dict(zip(argv[::2], argv[1::2]))
    preset = given.pop("--deepspeed", None)  # installed on GPU machines only, and refused elsewhere
    args, rest = parse_args(SftArguments, [text for pair in given.items() for text in pair])
    file = Path(swift.__file__).parent / "config" / f"{preset}.json"
    found.append({"rest": rest, "rate": args.learning_rate, "attention": args.attn_impl, "steps": args.max_steps,
                  "unknown": sorted(name for name in given if name[2:] not in known),
                  "deepspeed": preset and "deepspeed" in known and file.is_file()})
print("FOUND" + json.dumps(found))
"""


@pytest.mark.heavy
def test_ms_swifts_own_argument_class_takes_both_recipes(tmp_path: Path) -> None:
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    model, rows = tmp_path / "model", tmp_path / "rows.jsonl"
    build_tiny_model(model, demo_corpus(0, n=50))
    rows.write_text('{"messages": []}\n')
    settings = {
        "paper": ("cuda", replace(SftSettings.paper(), attn_implementation=FLASH)),
        "demo": ("cpu", SftSettings.demo()),
    }
    lists = [
        swift_arguments(chosen, model, rows, tmp_path / name, device) for name, (device, chosen) in settings.items()
    ]
    lists[0] += ["--use_cpu", "true"]  # without it bf16 is refused on a machine without a GPU
    done = subprocess.run(
        [sys.executable, "-c", _PARSE],
        input=json.dumps(lists),
        capture_output=True,
        text=True,
        env={**environment(SftSettings.demo(), tmp_path, "cpu"), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[4],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    paper, demo = json.loads(done.stdout.split("FOUND")[1])
    assert paper["rest"] == demo["rest"] == paper["unknown"] == demo["unknown"] == []
    assert paper["deepspeed"] is True
    assert demo["deepspeed"] is None
    assert (paper["rate"], paper["attention"], paper["steps"]) == (5e-6, "flash_attention_2", -1)
    assert demo["steps"] == SftSettings.demo().max_steps


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["processor_config.json", "preprocessor_config.json"])
def test_the_published_model_takes_images_of_the_size_it_was_trained_on(tmp_path: Path, name: str) -> None:
    from safetensors.numpy import save_file
    from transformers import Qwen2VLImageProcessor

    checkpoint = tmp_path / "checkpoint-9"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    (checkpoint / "tokenizer.json").write_text("{}")
    save_file({"w": np.zeros(2)}, checkpoint / "model.safetensors")
    released = {"min_pixels": 3136, "max_pixels": 12845056, "image_processor_type": "Qwen2VLImageProcessor"}
    bound = {"size": {"shortest_edge": 3136, "longest_edge": 12845056}, "video": 1}
    (checkpoint / name).write_text(json.dumps(released if name[:3] == "pre" else {"image_processor": bound, "x": 2}))
    model = publish(checkpoint, tmp_path / "model", checkpoint, 50176)
    values = json.loads((model / name).read_text())
    before = json.loads((checkpoint / name).read_text())
    assert values.keys() == before.keys()
    assert "12845056" in (checkpoint / name).read_text()  # the files are linked: the checkpoint's stays as it was
    processor = Qwen2VLImageProcessor(**values.get("image_processor", values))
    rows, columns = processor(Image.new("RGB", (2000, 1000)), return_tensors="pt")["image_grid_thw"][0, 1:].tolist()
    assert 0.8 * 50176 < rows * columns * 14 * 14 <= 50176
    again = publish(checkpoint, tmp_path / "other", checkpoint, 10**9)
    assert json.loads((again / name).read_text()) == before  # a bound above the model's own changes nothing
