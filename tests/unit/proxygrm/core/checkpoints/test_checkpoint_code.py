"""A checkpoint with code is refused everywhere, in one line that names the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from jobs.engine.check import missing_inputs
from jobs.recipes.proxy_grm import chain, demo
from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.core.checkpoints.code import LoadableCheckpoint, refuse_code
from proxygrm.core.errors import UserError
from proxygrm.core.settings import with_assignments
from proxygrm.rl.config import RlSettings
from proxygrm.serving.replicas.command import ReplicaSpec, serve_command
from proxygrm.serving.settings import ProxySettings
from proxygrm.sft.settings import SftSettings
from proxygrm.sft.train import train_sft
from support.refusals import refused

pytestmark = pytest.mark.slow

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
    check_checkpoint(checkpoint)
    with refused("checkpoint.code", path=checkpoint, file=name):
        refuse_code(checkpoint)
    refuse_code(checkpoint, trusted=True)


def test_a_configuration_deep_inside_another_is_found(checkpoint: Path) -> None:
    deep = {"model_type": "qwen2_5_vl", "text_config": {"parts": [{"auto_map": AUTO_MAP}]}}
    (checkpoint / "config.json").write_text(json.dumps(deep))
    with refused("checkpoint.code", file="config.json"):
        refuse_code(checkpoint)


@pytest.mark.parametrize(
    "name", ["modeling_x.py", "custom_generate/generate.py", "x.so", "weights.pkl", "adapter_model.bin"]
)
def test_files_that_are_code_are_refused(checkpoint: Path, name: str) -> None:
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_text("x = 1")
    with refused("checkpoint.code", file=name.split("/")[0]):
        refuse_code(checkpoint)


def test_pickled_weights_are_refused_only_where_they_would_be_read(checkpoint: Path) -> None:
    (checkpoint / "pytorch_model-00001-of-00002.bin").write_bytes(b"")
    refuse_code(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    with refused("checkpoint.code", file="pytorch_model-00001-of-00002.bin"):
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
    "distill": "distill.teacher",
    "proxy_sft": "proxy",
    "grm_sft": "policy",
    "proxy_rl": "proxy",
    "grm_rl.proxy": "proxy",
    "evaluate": "policy",
    "transfer": "transfer.judge",
    "benchmarks": "policy",
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
    training = {"proxy_rl": "rl", "grm_rl.proxy": "none"}.get(loads, "sft+rl")
    paths = dict.fromkeys(STAGES.values(), clean) | {STAGES[loads]: checkpoint}
    x = with_assignments(demo(), [f"proxy_training={training}", *(f"{name}={path}" for name, path in paths.items())])
    trusting = [f"{name}.trust_remote_code=true" for name in STAGES if name != loads]

    def problems(*assignments: str) -> list[str]:
        found = missing_inputs(chain(with_assignments(x, assignments)))
        return [one.text for one in found if str(checkpoint) in one.text]

    (line,) = problems(*trusting)
    assert "config.json has auto_map" in line
    assert f"--set {loads}.trust_remote_code=true" in line
    assert problems(*trusting, f"{loads}.trust_remote_code=true") == []


def test_a_stage_refuses_it_when_it_starts(checkpoint: Path, tmp_path: Path) -> None:
    """The checkpoint of an earlier stage of the chain does not exist yet when the chain is planned."""
    (checkpoint / "modeling_x.py").write_text("raise SystemExit('it ran')")
    with refused("checkpoint.code", file="modeling_x.py"):
        train_sft(SftSettings.demo(), checkpoint, tmp_path / "rows.jsonl", tmp_path / "out", device="cpu")
    with refused("checkpoint.code", file="modeling_x.py"):
        RlSettings.demo().check_policy(checkpoint, "cpu")
    with refused("checkpoint.code", file="modeling_x.py"):
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
    message = str(done.exception) if isinstance(done.exception, UserError) else done.output
    assert "config.json has auto_map" in message
    assert "--trust-remote-code" in message


def test_vllm_gets_the_trust_as_an_option(tmp_path: Path) -> None:
    for trusted, word in ((False, "--no-trust-remote-code"), (True, "--trust-remote-code")):
        settings = ProxySettings(trust_remote_code=trusted)
        spec = ReplicaSpec("proxy-0", "node", "/m", "127.0.0.1", "cpu", (), tmp_path, settings)
        assert [w for w in serve_command(spec, 1) if "trust" in w] == [word]
    for argument in ("--trust-remote-code", "--trust_remote_code=true"):
        with pytest.raises(UserError, match="trust_remote_code is a setting"):
            ProxySettings(extra_args=(argument,))


LOADS = """
import sys
import proxygrm.sft.plugin
from transformers import AutoConfig
AutoConfig.from_pretrained(sys.argv[1], trust_remote_code=True)  # as ms-swift does, always
"""


@pytest.mark.parametrize("trusted", ["0", "1"])
def test_ms_swift_runs_code_of_a_checkpoint_only_if_it_is_trusted(tmp_path: Path, trusted: str) -> None:
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
