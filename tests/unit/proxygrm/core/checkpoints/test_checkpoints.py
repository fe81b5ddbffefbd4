"""Whether a checkpoint is whole, from its files alone."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from proxygrm.core.checkpoints.check import is_hf_checkpoint
from proxygrm.core.errors import UserError
from support.small_checkpoints import shard


def test_a_whole_checkpoint_passes(checkpoint: Path) -> None:
    is_hf_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        is_hf_checkpoint(checkpoint)


def test_every_shard_of_the_index_must_be_there_and_whole(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    shard(checkpoint / weights["a"])
    with pytest.raises(UserError, match="is missing"):
        is_hf_checkpoint(checkpoint)
    shard(checkpoint / weights["b"], missing_bytes=5)
    with pytest.raises(UserError, match="its header says"):
        is_hf_checkpoint(checkpoint)
    shard(checkpoint / weights["b"])
    is_hf_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"x" * 40, struct.pack("<Q", 4) + b"nope"])
def test_a_file_that_is_no_safetensors_file_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        is_hf_checkpoint(checkpoint)


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        is_hf_checkpoint(tmp_path / "nothing")


FILES = ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_reached_is_not_called_damaged(checkpoint: Path, name: str) -> None:
    """A circle of links stands for whatever the system refuses: root can read everything else."""
    (checkpoint / name).unlink()
    (checkpoint / name).symlink_to(name)
    with pytest.raises(UserError) as told:
        is_hf_checkpoint(checkpoint)
    assert f"cannot be read: {name}: Too many levels of symbolic links" in str(told.value)
    assert "damaged" not in str(told.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["", "config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_a_checkpoint_of_somebody_else_is_said_to_be_forbidden(checkpoint: Path, name: str) -> None:
    (checkpoint / name).chmod(0)
    try:
        with pytest.raises(UserError, match=r"cannot be read: (.*: )?Permission denied"):
            is_hf_checkpoint(checkpoint)
    finally:
        (checkpoint / name).chmod(0o700)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_whose_file_was_cleaned_away_is_said_so(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    (checkpoint / name).symlink_to("../blobs/0123")
    with pytest.raises(
        UserError, match=re.escape(f"{name} (it is a link to ../blobs/0123") + "|is missing .it is a link"
    ):
        is_hf_checkpoint(checkpoint)


def test_a_file_and_a_path_through_a_file_are_no_checkpoint_and_not_damaged(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="it is a file"):
        is_hf_checkpoint(checkpoint / "config.json")
    with pytest.raises(UserError, match=r"cannot be read: .*Not a directory"):
        is_hf_checkpoint(checkpoint / "config.json" / "model")


def test_a_folder_in_the_place_of_a_file_is_named(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    (checkpoint / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config\.json: Is a directory"):
        is_hf_checkpoint(checkpoint)


def weights(path: Path, zero: tuple[str, ...] = ()) -> dict[str, tuple[int, int]]:
    """A shard of 12 layers, a matrix and a bias each; returns where each tensor lies. zero: those that are zero."""
    from safetensors.numpy import save_file

    made, random = {}, np.random.default_rng(1)
    for layer in range(12):
        for name, shape in ((f"{layer:02}.bias", (96,)), (f"{layer:02}.weight", (96, 96))):
            made[name] = (random.standard_normal(shape) if name not in zero else np.zeros(shape)).astype(np.float32)
    save_file(made, path)
    data = path.read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:begin])
    return {name: (begin + row["data_offsets"][0], begin + row["data_offsets"][1]) for name, row in header.items()}


def test_zeros_that_a_model_has_by_design_are_weights(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    biases = tuple(f"{layer:02}.bias" for layer in range(12))
    for zero in ((), biases, ("05.weight",), ("05.weight", "06.weight"), ("11.weight",), ("00.bias", "00.weight")):
        weights(file, zero)
        is_hf_checkpoint(checkpoint)


@pytest.mark.parametrize("page", [4096, 1])
@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (0.5, 1.0), (0.9, 1.0), (0.3, 0.5)])
def test_zeros_that_a_crash_has_left_are_no_weights(checkpoint: Path, begin: float, end: float, page: int) -> None:
    """The header and the length are right. Lost are pages, or what a writer had not come to."""
    file = checkpoint / "model.safetensors"
    places = weights(file)
    first, size = min(places.values())[0], file.stat().st_size
    at = max(first, int(size * begin) // page * page)
    until = size if end == 1 else int(size * end) // page * page
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(bytes(until - at))
    with pytest.raises(UserError, match=r"model\.safetensors holds zeros in the place of weights \(\d\d\.weight\)"):
        is_hf_checkpoint(checkpoint)


def test_a_header_whose_tensors_do_not_follow_each_other_is_refused(checkpoint: Path) -> None:
    rows = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    rows["b"] = {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]}
    header = json.dumps(rows).encode()
    (checkpoint / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    with pytest.raises(UserError, match="b does not begin where the one before it ends"):
        is_hf_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", bytes(300), b'{"a": 1' + bytes(300)])
def test_a_small_file_that_a_crash_has_torn_is_named(checkpoint: Path, name: str, content: bytes) -> None:
    (checkpoint / name).write_bytes(content)
    with pytest.raises(UserError, match=f"damaged: {re.escape(name)} "):
        is_hf_checkpoint(checkpoint)
