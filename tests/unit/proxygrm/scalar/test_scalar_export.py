"""The folder of a scalar reward model for others: checkpoint, card, scripts, and what vLLM can load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.model_cards import card
from support.refusals import refused
from support.scalar_models import make_scalar, tiny_start

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from proxygrm.report.model_card import card_text  # noqa: E402
from proxygrm.scalar.conversation import Item  # noqa: E402
from proxygrm.scalar.export import export_model  # noqa: E402
from proxygrm.scalar.scorer import Scorer  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_start(tmp_path_factory.mktemp("start") / "tiny")


@pytest.fixture(scope="module")
def exported(start: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The model, and its export."""
    folder = tmp_path_factory.mktemp("export")
    model = make_scalar(start, folder / "model")
    return model, export_model(model, folder / "out", card_text(card()))


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_transformers_alone_scores_the_export(exported: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = exported
    responses = ("One.", "Two, or three.")
    words = [sys.executable, "-I", str(folder / "score_with_transformers.py"), str(folder), "", "Which?", *responses]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (expected,) = Scorer(model).scores([Item("x", "Which?", responses)])
    assert [float(line) for line in done.stdout.split()] == pytest.approx(expected.scores, abs=1e-5)
    (again,) = Scorer(folder).scores([Item("x", "Which?", responses)])
    assert again.scores == expected.scores


def test_what_vllm_loads_is_the_backbone_without_the_head(exported: tuple[Path, Path]) -> None:
    import numpy as np

    model, folder = exported
    whole, backbone, head = tensors(model), tensors(folder / "vllm"), dict(np.load(folder / "reward_head.npz"))
    assert {*backbone, *(f"score.{name}" for name in head)} == {*whole}
    assert all(torch.equal(whole[name], value) for name, value in backbone.items())
    assert all(np.array_equal(whole[f"score.{name}"].numpy(), value) for name, value in head.items())
    config = json.loads((folder / "vllm" / "config.json").read_text())
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert "reward_head" not in config
    assert tensors(model).keys() == whole.keys(), "the trained model is as it was"


def test_weights_in_several_files_lose_the_head_from_the_index_too(exported: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model, _ = exported
    parts = tmp_path / "parts"
    export_model(model, parts, "")
    for extra in ("vllm", "reward_head.npz"):
        subprocess.run(["rm", "-r", str(parts / extra)], check=True)
    whole = tensors(model)
    names = sorted(whole)
    (parts / "model.safetensors").unlink()
    files = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, held in files.items():
        save_file({name: whole[name] for name in held}, parts / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in files.items() for name in held}}
    (parts / "model.safetensors.index.json").write_text(json.dumps(index))
    out = export_model(parts, tmp_path / "out", "")
    kept = json.loads((out / "vllm" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(kept) == {name for name in names if not name.startswith("score.")}
    assert (out / "vllm" / "model-00001-of-00002.safetensors").samefile(parts / "model-00001-of-00002.safetensors")


def test_the_card_says_data_settings_and_scores(exported: tuple[Path, Path]) -> None:
    text = (exported[1] / "README.md").read_text()
    for words in (
        "base_model: Qwen/Qwen2.5-VL-7B-Instruct",
        "| held-out pairs | 160 pairs | 72.50 | 65.1 to 78.8 |",
        "| VL-RewardBench, overall | PARTIAL: 40 of 1,250, one order | 75.00 | 60.0 to 86.0 |",
        "| povid | 935 |",
        "128 pairs per step on 2 devices",
        "| learning_rate | 0.003 |",
        "| reward_model.activation | silu |",
    ):
        assert words in text


def test_a_local_backbone_is_named_without_its_path_and_is_no_base_on_the_hub() -> None:
    text = card_text(card("/home/me/secret/tiny-qwen2.5-vl"))
    assert "of tiny-qwen2.5-vl" in text
    assert "secret" not in text
    assert "base_model" not in text


def test_a_model_that_writes_is_not_exported(start: Path, tmp_path: Path) -> None:
    with refused("checkpoint.not-scalar", path=start):
        export_model(start, tmp_path / "out", "")
    assert not list(tmp_path.iterdir())
