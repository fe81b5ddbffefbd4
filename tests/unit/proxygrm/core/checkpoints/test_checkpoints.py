"""Whether a checkpoint is complete, from its files alone."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from proxygrm.core.checkpoints.check import check_checkpoint
from support.refusals import refused
from support.small_checkpoints import shard


def test_a_complete_checkpoint_passes(checkpoint: Path) -> None:
    check_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with refused("checkpoint.incomplete", path=checkpoint, file=name):
        check_checkpoint(checkpoint)


def test_every_shard_of_the_index_must_exist_and_be_complete(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    shard(checkpoint / weights["a"])
    with refused("checkpoint.incomplete", file=weights["b"]):
        check_checkpoint(checkpoint)
    shard(checkpoint / weights["b"], missing_bytes=5)
    with refused("checkpoint.damaged", file=weights["b"]):
        check_checkpoint(checkpoint)
    shard(checkpoint / weights["b"])
    check_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"x" * 40, struct.pack("<Q", 4) + b"nope"])
def test_a_file_that_is_not_a_safetensors_file_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "model.safetensors").write_bytes(content)
    with refused("checkpoint.damaged", file="model.safetensors"):
        check_checkpoint(checkpoint)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with refused("checkpoint.missing", path=tmp_path / "nothing"):
        check_checkpoint(tmp_path / "nothing")


FILES = ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_reached_is_not_called_damaged(checkpoint: Path, name: str) -> None:
    """A loop of links is an error of the system that root gets, too."""
    (checkpoint / name).unlink()
    (checkpoint / name).symlink_to(name)
    with refused("checkpoint.unreadable", path=checkpoint, file=name) as caught:
        check_checkpoint(checkpoint)
    assert "Too many levels of symbolic links" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["", "config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_a_checkpoint_without_read_permission_is_unreadable(checkpoint: Path, name: str) -> None:
    (checkpoint / name).chmod(0)
    try:
        with refused("checkpoint.unreadable", path=checkpoint):
            check_checkpoint(checkpoint)
    finally:
        (checkpoint / name).chmod(0o700)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_broken_link_is_a_missing_file(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    (checkpoint / name).symlink_to("../blobs/0123")
    with refused("checkpoint.incomplete", file=name) as caught:
        check_checkpoint(checkpoint)
    assert "(it is a link to ../blobs/0123, which does not exist)" in str(caught.value)


def test_a_file_and_a_path_through_a_file_are_not_called_damaged(checkpoint: Path) -> None:
    with refused("checkpoint.not-a-folder"):
        check_checkpoint(checkpoint / "config.json")
    with refused("checkpoint.unreadable"):
        check_checkpoint(checkpoint / "config.json" / "model")


def test_a_folder_in_the_place_of_a_file_is_named(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    (checkpoint / "config.json").mkdir()
    with refused("checkpoint.unreadable", file="config.json"):
        check_checkpoint(checkpoint)


def weights(path: Path, zero: tuple[str, ...] = ()) -> dict[str, tuple[int, int]]:
    """A shard of 12 layers, a matrix and a bias each; returns the offsets of each tensor. zero: those that are zero."""
    from safetensors.numpy import save_file

    arrays, random = {}, np.random.default_rng(1)
    for layer in range(12):
        for name, shape in ((f"{layer:02}.bias", (96,)), (f"{layer:02}.weight", (96, 96))):
            arrays[name] = (random.standard_normal(shape) if name not in zero else np.zeros(shape)).astype(np.float32)
    save_file(arrays, path)
    data = path.read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:begin])
    return {name: (begin + row["data_offsets"][0], begin + row["data_offsets"][1]) for name, row in header.items()}


def test_zeros_that_a_model_has_on_purpose_are_weights(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    biases = tuple(f"{layer:02}.bias" for layer in range(12))
    for zero in ((), biases, ("05.weight",), ("05.weight", "06.weight"), ("11.weight",), ("00.bias", "00.weight")):
        weights(file, zero)
        check_checkpoint(checkpoint)


@pytest.mark.parametrize("page", [4096, 1])
@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (0.5, 1.0), (0.9, 1.0), (0.3, 0.5)])
def test_zeros_that_a_crash_has_left_are_not_weights(checkpoint: Path, begin: float, end: float, page: int) -> None:
    """The header and the length are right; pages, or the last writes, are lost."""
    file = checkpoint / "model.safetensors"
    places = weights(file)
    first, size = min(places.values())[0], file.stat().st_size
    at = max(first, int(size * begin) // page * page)
    until = size if end == 1 else int(size * end) // page * page
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(bytes(until - at))
    with refused("checkpoint.damaged", file="model.safetensors") as caught:
        check_checkpoint(checkpoint)
    assert re.search(r"zeros instead of weights \(\d\d\.weight\)", str(caught.value))


def test_a_header_whose_tensors_do_not_follow_each_other_is_refused(checkpoint: Path) -> None:
    rows = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    rows["b"] = {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]}
    header = json.dumps(rows).encode()
    (checkpoint / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    with refused("checkpoint.damaged", file="model.safetensors"):
        check_checkpoint(checkpoint)


def test_a_configuration_that_is_nested_without_end_is_refused(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("[" * 100_000)
    with refused("checkpoint.damaged", path=checkpoint):
        check_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", bytes(300), b'{"a": 1' + bytes(300)])
def test_a_small_file_that_a_crash_has_torn_is_named(checkpoint: Path, name: str, content: bytes) -> None:
    (checkpoint / name).write_bytes(content)
    with refused("checkpoint.damaged", file=name):
        check_checkpoint(checkpoint)
