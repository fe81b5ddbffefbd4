"""A checkpoint that would run code of its own is refused everywhere, in one line that names the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from jobs.engine.overrides import apply
from jobs.engine.run_folder.ledger import missing_givens
from jobs.recipes.proxy_grm import chain, demo
from proxygrm.core.checkpoints.check import is_hf_checkpoint
from proxygrm.core.checkpoints.code import LoadableCheckpoint, refuse_code
from proxygrm.core.errors import UserError
from proxygrm.rl.config import RlSettings
from proxygrm.serving.replicas.command import ReplicaSpec, serve_command
from proxygrm.serving.settings import ProxySettings
from proxygrm.sft.arguments import SftSettings
from proxygrm.sft.train import train_sft

AUTO_MAP = {"AutoModel": "modeling_x.X"}
CONFIGS = {
    "config.json": {"model_type": "qwen2_5_vl", "auto_map": AUTO_MAP},
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["x.X", None]}},
    "preprocessor_config.json": {"auto_map": {"AutoImageProcessor": "x.X"}},
    "processor_config.json": {"image_processor": {"auto_map": {"AutoImageProcessor": "x.X"}}},
    "video_preprocessor_config.json": {"auto_map": {"AutoVideoProcessor": "x.X"}},
    "generation_config.json": {"custom_generate": "somebody/decoding"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_names_code_is_refused(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_text(json.dumps(CONFIGS[name]))
    is_hf_checkpoint(checkpoint)
    with pytest.raises(UserError, match=rf"run as you: {name} has (auto_map|custom_generate) \(.*if you trust its"):
        refuse_code(checkpoint)
    refuse_code(checkpoint, trusted=True)


def test_a_configuration_deep_inside_another_is_found(checkpoint: Path) -> None:
    deep = {"model_type": "qwen2_5_vl", "text_config": {"parts": [{"auto_map": AUTO_MAP}]}}
    (checkpoint / "config.json").write_text(json.dumps(deep))
    with pytest.raises(UserError, match=r"config\.json has auto_map"):
        refuse_code(checkpoint)


@pytest.mark.parametrize(
    "name", ["modeling_x.py", "custom_generate/generate.py", "x.so", "weights.pkl", "adapter_model.bin"]
)
def test_files_that_are_code_are_refused(checkpoint: Path, name: str) -> None:
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_text("x = 1")
    with pytest.raises(UserError, match=f"run as you: {name.split('/')[0]}"):
        refuse_code(checkpoint)


def test_pickled_weights_are_refused_only_where_they_would_be_read(checkpoint: Path) -> None:
    (checkpoint / "pytorch_model-00001-of-00002.bin").write_bytes(b"")
    refuse_code(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"pytorch_model-00001-of-00002\.bin is a pickle"):
        refuse_code(checkpoint)


def test_what_every_checkpoint_may_have_passes(checkpoint: Path) -> None:
    vocabulary = {"model": {"vocab": {"auto_map": 1, "custom_generate": 2}}}
    (checkpoint / "tokenizer.json").write_text(json.dumps(vocabulary))
    (checkpoint / "config.json").write_text('{"model_type": "qwen2_5_vl", "auto_map": {}}')
    (checkpoint / "generation_config.json").write_text("{}")
    for name in ("zero_to_fp32.py", "training_args.bin", "optimizer.pt", "chat_template.jinja", "README.md"):
        (checkpoint / name).write_text("x")
    (checkpoint / "global_step3").mkdir()
    LoadableCheckpoint("--set x")(checkpoint)


STAGES = {
    "distill": "teacher",
    "proxy_sft": "proxy",
    "grm_sft": "policy",
    "proxy_rl": "proxy",
    "proxy_server": "proxy",
    "evaluate": "policy",
    "transfer": "judge",
}


@pytest.mark.parametrize("loads", STAGES)
def test_a_plan_names_the_file_and_the_setting_that_trusts_it(
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    loads: str,
) -> None:
    clean = tmp_path_factory.mktemp("clean")
    for file in checkpoint.iterdir():
        (clean / file.name).write_bytes(file.read_bytes())
    (checkpoint / "config.json").write_text(json.dumps(CONFIGS["config.json"]))
    training = {"proxy_rl": "rl", "proxy_server": "none"}.get(loads, "sft+rl")
    x = replace(demo(), teacher=str(clean), policy=str(clean), proxy=str(clean), judge=str(clean))
    x = replace(x, proxy_training=training, **{STAGES[loads]: str(checkpoint)})
    trusting = [f"{name}.trust_remote_code=true" for name in STAGES if name != loads]

    def told(*assignments: str) -> list[str]:
        return [line for line in missing_givens(chain(apply(x, assignments))) if str(checkpoint) in line]

    (line,) = told(*trusting)
    assert "config.json has auto_map" in line
    assert f"--set {loads}.trust_remote_code=true" in line
    assert told(*trusting, f"{loads}.trust_remote_code=true") == []


def test_a_stage_refuses_it_when_it_starts(checkpoint: Path, tmp_path: Path) -> None:
    """A checkpoint that another stage of the chain has made is not there yet when it is planned."""
    (checkpoint / "modeling_x.py").write_text("raise SystemExit('it ran')")
    refused = pytest.raises(UserError, match=r"run as you: modeling_x\.py")
    with refused:
        train_sft(SftSettings.demo(), checkpoint, tmp_path / "rows.jsonl", tmp_path / "out", device="cpu")
    with refused:
        RlSettings.demo().check_policy(checkpoint, "cpu")
    with refused:
        ProxySettings().fitted(checkpoint, "cpu")


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "run", "--pairs", "PAIRS", "--judge", "MODEL", "--out", "OUT"],
        ["eval", "run", "--pairs", "PAIRS", "--judge", "MODEL", "--out", "OUT", "--submit"],
        ["eval", "transfer", "--rubrics", "a=PAIRS", "--judge", "b=MODEL", "--out", "OUT"],
        ["eval", "best-of-n", "PAIRS", "OUT", "--judge", "MODEL"],
        ["evaluate", "MODEL", "PAIRS", "--out", "OUT", "--device", "cpu"],
        ["proxy", "serve", "--model", "MODEL", "--device", "cpu"],
    ],
    ids=lambda words: " ".join(words[:2]) + " --submit" * ("--submit" in words),
)
def test_commands_refuse_it_and_name_their_option(checkpoint: Path, tmp_path: Path, words: list[str]) -> None:
    (checkpoint / "config.json").write_text(json.dumps(CONFIGS["config.json"]))
    (tmp_path / "pairs.jsonl").write_text("")
    places = {"MODEL": str(checkpoint), "PAIRS": str(tmp_path / "pairs.jsonl"), "OUT": str(tmp_path / "out")}
    for old, new in places.items():
        words = [word.replace(old, new) for word in words]
    done = CliRunner().invoke(main, words)
    assert isinstance(done.exception, UserError | SystemExit), done.exception
    said = str(done.exception) if isinstance(done.exception, UserError) else done.output
    assert "config.json has auto_map" in said
    assert "--trust-remote-code" in said


def test_vllm_is_told_in_words(tmp_path: Path) -> None:
    for trusted, word in ((False, "--no-trust-remote-code"), (True, "--trust-remote-code")):
        settings = ProxySettings(trust_remote_code=trusted)
        spec = ReplicaSpec("proxy-0", "node", "/m", "127.0.0.1", "cpu", (), tmp_path, settings)
        assert [w for w in serve_command(spec, 1) if "trust" in w] == [word]
    for way_round in ("--trust-remote-code", "--trust_remote_code=true"):
        with pytest.raises(UserError, match="trust_remote_code is a setting"):
            ProxySettings(extra_args=(way_round,))


LOADS = """
import sys
import proxygrm.sft.plugin
from transformers import AutoConfig
AutoConfig.from_pretrained(sys.argv[1], trust_remote_code=True)  # as ms-swift does, always
"""


@pytest.mark.parametrize("trusted", ["0", "1"])
def test_ms_swift_runs_no_code_of_a_checkpoint_unless_it_is_trusted(tmp_path: Path, trusted: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom transformers import PretrainedConfig as X\n"
    (model / "configuration_x.py").write_text(code + "class Y(X):\n    model_type = 'x'\n")
    (model / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": {"AutoConfig": "configuration_x.Y"}}))
    environment = os.environ | {"PROXYGRM_TRUST_REMOTE_CODE": trusted, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(model)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert (tmp_path / "ran").exists() == (trusted == "1"), done.stderr
    assert ("comes with the checkpoint and is not run" in done.stderr) == (trusted == "0")
