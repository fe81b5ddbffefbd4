from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from proxygrm.core.checkpoints.likeness import likeness


def change(file: Path, **values: object) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | values))


@pytest.fixture
def other(checkpoint: Path, tmp_path: Path) -> Path:
    change(checkpoint / "config.json", dtype="float32", hidden_size=8, text_config={"hidden_size": 8, "depth": 2})
    return Path(shutil.copytree(checkpoint, tmp_path / "other"))


def test_a_trained_checkpoint_is_like_its_start_whatever_the_trainer_adds(checkpoint, other):
    weights = next(other.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    change(other / "best.json", step=3)
    change(
        other / "config.json", use_cache=False, transformers_version="9", eos_token_id=1,
        text_config={"hidden_size": 8, "depth": 2, "dtype": "float32", "use_cache": False},
    )  # fmt: skip
    change(other / "tokenizer_config.json", is_local=True)
    change(checkpoint / "tokenizer_config.json", is_local=False)
    assert likeness(other) == likeness(checkpoint) is not None
    values = json.loads((other / "config.json").read_text())
    del values["hidden_size"]
    (other / "config.json").write_text(json.dumps(values))
    change(checkpoint / "config.json", hidden_size=8)
    assert likeness(other) == likeness(checkpoint)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"text_config": {"hidden_size": 8, "depth": 3}}),
        ("config.json", {"text_config": {"hidden_size": 8, "depth": 2, "dtype": "bfloat16"}}),
        ("config.json", {"dtype": "bfloat16"}),
        ("config.json", {"rope_theta": 1e6}),
        ("generation_config.json", {"eos_token_id": 7}),
        ("tokenizer_config.json", {"add_bos_token": True}),
        ("preprocessor_config.json", {"max_pixels": 7}),
        ("added_tokens.json", {"<new>": 9}),
    ],
)
def test_what_an_engine_reads_makes_another_kind_of_checkpoint(checkpoint, other, file, values):
    assert likeness(other) == likeness(checkpoint)
    change(other / file, **values)
    assert likeness(other) not in (None, likeness(checkpoint))


def test_weights_of_other_shapes_are_another_kind_and_unknown_ones_are_like_nothing(checkpoint, other):
    weights = next(other.glob("*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(
        content.replace(b'"F32"', b'"F16"') if b'"F32"' in content else content.replace(b"BF16", b"F16 ")
    )
    assert likeness(other) != likeness(checkpoint)
    weights.write_bytes(content)
    (other / "chat_template.jinja").write_text("other")
    assert likeness(other) not in (None, likeness(checkpoint))
    (other / "modeling.py").touch()
    assert likeness(other) is None
    (other / "modeling.py").unlink()
    change(other / "config.json", quantization_config={"bits": 4})
    assert likeness(other) is None
    weights.write_bytes(b"no header")
    assert likeness(other) is None
    assert likeness(other / "nowhere") is None
