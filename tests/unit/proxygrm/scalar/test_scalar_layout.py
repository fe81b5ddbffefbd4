"""What config.json says of a scalar model's head, without its weights being loaded."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.checkpoints.kinds import kind_of
from proxygrm.scalar.layout import layout_of
from support.refusals import refused

SHAPES = {"score.dense.0.weight": [4, 4], "score.dense.0.bias": [4], "score.out_proj.weight": [1, 4],
          "score.out_proj.bias": [1]}  # fmt: skip
CONFIG = {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForSequenceClassification"], "hidden_size": 4,
          "reward_head": {"layers": 2, "activation": "silu"}}  # fmt: skip


def checkpoint(folder: Path, config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, shape in SHAPES.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\x01" * end)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    return folder


def test_the_layout_is_read(tmp_path: Path) -> None:
    layout = layout_of(checkpoint(tmp_path, CONFIG))
    assert (layout.hidden_size, layout.layers, layout.activation, layout.length_normalisation) == (4, 2, "silu", False)


HEADS: list[Any] = [
    "silu",
    3,
    {"layers": 2},
    {"activation": "silu"},
    {"layers": "2", "activation": "silu"},
    {"layers": 2.0, "activation": "silu"},
    {"layers": 10**9, "activation": "silu"},
    {"layers": 2, "activation": "relu"},
    {"layers": 2, "activation": "silu", "length_normalisation": "no"},
]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_is_described_in_another_way_is_refused(tmp_path: Path, head: Any) -> None:
    with refused("checkpoint.bad-head", path=tmp_path, head=head):
        layout_of(checkpoint(tmp_path, CONFIG | {"reward_head": head}))


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": None},
        {"hidden_size": "4"},
        {"hidden_size": 0},
        {"hidden_size": None, "text_config": []},
        {"text_config": {"hidden_size": "4"}},
    ],
)
def test_a_width_that_is_no_number_is_refused(tmp_path: Path, sizes: dict[str, Any]) -> None:
    with refused("checkpoint.bad-head", path=tmp_path):
        layout_of(checkpoint(tmp_path, CONFIG | sizes))


def test_a_configuration_that_is_a_list_is_damaged(tmp_path: Path) -> None:
    checkpoint(tmp_path, [CONFIG])
    assert kind_of(tmp_path) == "generative"
    with refused("checkpoint.damaged"):
        layout_of(tmp_path)
