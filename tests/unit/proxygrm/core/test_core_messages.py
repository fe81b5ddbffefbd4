"""The sentences of this room's errors, once each; other tests compare codes and values."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxygrm.core.bounds import check_bounds
from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.limits import check_servable, context_length
from proxygrm.core.errors import UserError
from proxygrm.core.files import lock
from proxygrm.core.files.json_lines import json_rows, numbered_lines
from proxygrm.core.files.saved_dataset import refuse_saved_dataset
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.one_line import refuse_control
from proxygrm.core.pairs import PreferencePair, pairs_file, write_pairs
from support.small_checkpoints import shard, write_checkpoint

TRUST = "if you trust its authors, --set STAGE.trust_remote_code=true in a chain, --trust-remote-code elsewhere"


@dataclass(frozen=True)
class Settings:
    n: float = 1
    share: float = 0.5
    kind: str = "a"


def checkpoint(folder: Path, change: Callable[[Path], object]) -> Path:
    folder.mkdir()
    path = write_checkpoint(folder)
    change(path)
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def pair(**changes: object) -> PreferencePair:
    values = {"id": "s:1", "source": "s", "question": "q", "response_1": "a", "response_2": "b", "label": 1}
    return PreferencePair(**{**values, "images": (), "license": "mit", **changes})  # type: ignore[arg-type]


def servable(path: Path, tensor_parallel_size: int = 1, **config: object) -> None:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "x", **config}))
    (path / "tokenizer_config.json").write_text("{}")
    check_servable(path, tensor_parallel_size)


def hold(path: Path) -> None:
    with lock.held(path, "another submit is working", "wait for it"):
        pass


SETTINGS = [
    (lambda p: check_bounds("rl", Settings(n=0), positive=["n"]), "rl: n is 0; it must be above 0"),
    (lambda p: check_bounds("rl", Settings(n=math.inf), positive=["n"]), "rl: n is inf; it must be finite"),
    (lambda p: check_bounds("rl", Settings(n=0), from_one=["n"]), "rl: n is 0; it must be at least 1"),
    (lambda p: check_bounds("rl", Settings(n=-1), from_zero=["n"]), "rl: n is -1; it must be at least 0"),
    (
        lambda p: check_bounds("rl", Settings(share=2), shares=["share"]),
        "rl: share is 2; it is a share between 0 and 1",
    ),
    (lambda p: check_bounds("rl", Settings(), choices={"kind": ["b", "c"]}), "rl: kind is 'a'; it must be one of b, c"),
    (lambda p: refuse_control("a\nb", "--account"), "--account contains a line break; it must be one plain line"),
    (lambda p: refuse_control("a\x85b", "x"), "x contains U+0085 (a control character); it must be one plain line"),
]
FILES = [
    (
        lambda p: read_user_text(write(p / "a.toml", "x".encode("utf-16"))),
        "{p}/a.toml is in UTF-16 or UTF-32, or is not text; save it as UTF-8",
    ),
    (
        lambda p: read_user_text(write(p / "a.toml", b"x\n\xe9")),
        "{p}/a.toml is not UTF-8 (line 2, byte 2: 0xe9); save it as UTF-8",
    ),
    (
        lambda p: read_user_text(write(p / "a.toml", b"\x1f\x8b\x08")),
        "{p}/a.toml is compressed by gzip; unpack it first (gunzip)",
    ),
    (
        lambda p: list(numbered_lines(write(p / "a.jsonl", b"[{}]"))),
        "{p}/a.jsonl is one JSON list; give JSONL, one object per line: `jq -c '.[]' FILE` writes it",
    ),
    (
        lambda p: list(json_rows(write(p / "a.jsonl", b'1\n"\n'))),
        "{p}/a.jsonl row 2 is not JSON (Invalid control character at: line 1 column 2 (char 1))",
    ),
    (
        lambda p: refuse_saved_dataset(write(p / "a.arrow", b""), "a JSONL file"),
        "{p}/a.arrow is an Arrow file of `datasets`; export each split: "
        "datasets.load_from_disk(FOLDER).to_parquet('data.parquet'), and give a JSONL file",
    ),
    (
        lambda p: refuse_saved_dataset(write(p / "dataset_dict.json", b"").parent, "a JSONL file"),
        "{p} was written by `datasets.save_to_disk`; export each split: "
        "datasets.load_from_disk(FOLDER).to_parquet('data.parquet'), and give a JSONL file",
    ),
    (lambda p: hold(p / "no" / "lock"), "cannot lock {p}/no/lock: No such file or directory"),
]
PAIRS = [
    (
        lambda p: pairs_file(p / "none"),
        "{p}/none/pairs.parquet does not exist; make a pairs folder with `proxygrm data ingest` first",
    ),
    (
        lambda p: pairs_file(write(p / "rows.json", b"")),
        "{p}/rows.json is a file; give a pairs folder, which `proxygrm data ingest` makes",
    ),
    (lambda p: write_pairs(p, [pair(label=3)]), "pair 's:1' has the label 3; it must be 1 or 2"),
    (lambda p: write_pairs(p, [pair(), pair()]), "pair id 's:1' occurs twice in {p}; ids must be unique"),
    (
        lambda p: write_pairs(p, [pair(images=("x.png",))]),
        "pair 's:1' names the image 'x.png', which is not in {p}/images",
    ),
]
CHECKPOINTS = [
    (lambda p: check_checkpoint(p / "none"), "no checkpoint at {p}/none: there is no such folder"),
    (
        lambda p: check_checkpoint(p / "http://host:8000/v1"),
        "no checkpoint at {p}/http:/host:8000/v1: it is an address; this needs the folder",
    ),
    (
        lambda p: check_checkpoint(write(p / "a", b"")),
        "no checkpoint at {p}/a: it is a file; a checkpoint is a folder with config.json",
    ),
    (
        lambda p: check_checkpoint(checkpoint(p / "c", lambda c: (c / "config.json").write_text("{}"))),
        "the checkpoint at {c} is damaged: config.json has no model_type",
    ),
    (
        lambda p: check_checkpoint(checkpoint(p / "c", lambda c: (c / "config.json").unlink())),
        "the checkpoint at {c} is incomplete: it has no config.json",
    ),
    (
        lambda p: check_checkpoint(checkpoint(p / "c", lambda c: (c / "tokenizer.json").unlink())),
        "the checkpoint at {c} is incomplete: it has no tokenizer.json; train or copy it again",
    ),
    (
        lambda p: check_checkpoint(checkpoint(p / "c", lambda c: (c / "preprocessor_config.json").unlink())),
        "the checkpoint at {c} is incomplete: it has no preprocessor_config.json, so images cannot be prepared",
    ),
    (
        lambda p: check_checkpoint(checkpoint(p / "c", lambda c: (c / "tokenizer.json").write_bytes(b""))),
        "the checkpoint at {c} is damaged: tokenizer.json is empty; train or copy it again",
    ),
    (
        lambda p: check_checkpoint(checkpoint(p / "c", lambda c: (c / "model.safetensors").unlink())),
        "the checkpoint at {c} is incomplete: model.safetensors is missing; train or copy it again",
    ),
    (
        lambda p: check_checkpoint(
            checkpoint(p / "c", lambda c: (c / "model.safetensors").write_bytes(struct.pack("<Q", 2**40)))
        ),
        "the checkpoint at {c} is damaged: model.safetensors is not a safetensors file "
        "(a header of 1099511627776 bytes in a file of 8)",
    ),
    (
        lambda p: refuse_code(checkpoint(p / "c", lambda c: (c / "x.py").write_text("1"))),
        f"the checkpoint at {{c}} has code that would run as you: x.py; take a copy without it, or, {TRUST}",
    ),
    (
        lambda p: servable(p / "c", torch_dtype="int4"),
        "{c} cannot be served: its config.json has the dtype 'int4'; bfloat16 is usual",
    ),
    (
        lambda p: servable(p / "c", 3, num_attention_heads=8),
        "tensor_parallel_size is 3, but {c} has 8 attention heads, which do not divide by it; give 1 or 2",
    ),
    (
        lambda p: servable(p / "c", 4, num_key_value_heads=6),
        "tensor_parallel_size is 4, but {c} has 6 key and value heads: give a divisor or a multiple of 6",
    ),
    (
        lambda p: servable(p / "c"),
        "{c} cannot chat: it has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); "
        "take an instruction-tuned checkpoint, or copy the file from one",
    ),
    (
        lambda p: context_length(write(p / "config.json", b'{"n_positions": 64}').parent, 65, 128),
        "max_model_len is 65, but {p} allows 64 tokens, prompt and answer together (its config.json); give at most 64",
    ),
]


@pytest.mark.parametrize(("act", "sentence"), [*SETTINGS, *FILES, *PAIRS, *CHECKPOINTS])
def test_every_error_says_what_where_and_what_to_do(
    tmp_path: Path, act: Callable[[Path], object], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        act(tmp_path)
    assert str(caught.value) == sentence.format(p=tmp_path, c=tmp_path / "c")
    assert caught.value.code


def test_a_locked_file_names_its_holder(tmp_path: Path) -> None:
    with lock.held(tmp_path / "lock", "busy"), pytest.raises(UserError) as caught:
        hold(tmp_path / "lock")
    message = str(caught.value)
    assert message.startswith("another submit is working (`")
    assert f", process {os.getpid()} on " in message
    assert message.endswith("); wait for it")


def test_a_truncated_shard_says_both_lengths(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    shard(path / "model.safetensors", missing_bytes=5)
    size = (path / "model.safetensors").stat().st_size
    with pytest.raises(UserError) as caught:
        check_checkpoint(path)
    problem = f"model.safetensors has {size} bytes, its header says {size + 5}"
    assert str(caught.value) == f"the checkpoint at {path} is damaged: {problem}"
