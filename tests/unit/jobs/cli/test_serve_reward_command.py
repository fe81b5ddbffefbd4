"""`proxygrm serve-reward`: what it refuses, in one line, before anything is started."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from support.refusals import code_of
from support.small_checkpoints import write_checkpoint


@pytest.fixture
def scalar(tmp_path: Path) -> Path:
    """A checkpoint that can be served as far as its small files show."""
    folder = tmp_path / "rm"
    folder.mkdir()
    write_checkpoint(folder)
    config = {"model_type": "qwen2_5_vl", "hidden_size": 4, "reward_head": {"layers": 1, "activation": "none"}}
    (folder / "config.json").write_text(json.dumps(config))
    header = json.dumps({"score.weight": {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return folder


@pytest.fixture
def writing(tmp_path: Path) -> Path:
    folder = tmp_path / "grm"
    folder.mkdir()
    return write_checkpoint(folder)


def refusal(*arguments: object) -> str:
    """The code; the command prints one line and fails."""
    result = CliRunner().invoke(main, ["serve-reward", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert len(result.output.strip().splitlines()) == 1, result.output
    return code_of(result.output)


def test_bad_models_and_options_are_refused(tmp_path: Path, scalar: Path, writing: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (scalar / "modeling.py").write_text("print('I run as you')")
    assert refusal(scalar, "--device", "cpu") == "checkpoint.code"
    (scalar / "modeling.py").unlink()
    assert refusal(tmp_path / "gone") == "checkpoint.missing"
    assert refusal(f"x={scalar}", f"x={writing}") == "serve-reward.duplicate-name"
    assert refusal(scalar, "--no-key", "--key-file", "k") == "option.conflict"
    assert refusal(scalar, "--images", tmp_path / "none") == "file.not-a-folder"
    (tmp_path / "file").touch()
    assert refusal(scalar, "--device", "cpu", "--dir", tmp_path / "file" / "logs") == "file.cannot-write"
    assert refusal(scalar, "--allow", "0.0.0.0/0") == "proxy.too-many-callers"
    assert refusal(scalar, "--device", "cpu", "--max-tokens", 40000) == "proxy.no-room-for-prompt"


def test_a_variable_that_is_not_set_does_not_open_the_current_folder(scalar: Path) -> None:
    result = CliRunner().invoke(main, ["serve-reward", str(scalar), "--images", ""])
    assert result.exit_code == 2
    assert "'--images': it is empty" in result.output


def test_too_few_gpus_are_counted_over_all_models(tmp_path: Path, scalar: Path, writing: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr("proxygrm.reward_service.run.check_vllm", lambda: None)  # not installed for every Python
    sizes = ("--device", "cuda", "--tensor-parallel-size", 2)
    assert refusal(scalar, writing, *sizes, "--replicas", 2) == "proxy.too-few-gpus"


def test_a_port_in_use_and_an_address_open_to_all_are_refused(tmp_path: Path, scalar: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refusal(scalar, "--device", "cpu", "--port", port) == "proxy.port-unavailable"
    assert refusal(scalar, "--device", "cpu", "--no-key", "--host", "0.0.0.0") == "proxy.open-to-all"
