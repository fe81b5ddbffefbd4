"""The limits of a checkpoint are read from its config.json, and more is refused before anything starts."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.eval.main import evaluation
from jobs.cli.proxy import proxy
from proxygrm.core.checkpoints.limits import check_servable, context_allowed, context_length
from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.base import made_by
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.rl.config import RlSettings
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.settings import ProxySettings
from support.refusals import refused


def checkpoint(folder: Path, template: bool = True, **config) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", **config}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"} if template else {}))
    return folder


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 128000, "rope_scaling": {"type": "mrope", "mrope_section": [1]}}, 128000),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, 16384),
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {
                    "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768
                },
            },
            131072,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"text_config": {"max_position_embeddings": 8192, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 2.0}}}}, 16384),
        ({"text_config": {"model_type": "gemma3_text", "max_position_embeddings": 8192,
                          "rope_scaling": {"rope_type": "linear", "factor": 8.0}}}, 8192),
        ({"n_positions": 1024, "max_position_embeddings": 2048}, 1024),
        ({"llm_config": {"max_position_embeddings": 2048}}, 2048),
        ({"max_position_embeddings": None, "rope_scaling": {"factor": None}}, None),
        ({"max_position_embeddings": 64, "rope_scaling": {"rope_type": "default", "factor": None}}, 64),
        ({}, None),
    ],
)  # fmt: skip
def test_the_context_is_what_vllm_derives_from_the_config(tmp_path, config, allowed):
    assert context_allowed(checkpoint(tmp_path, **config)) == allowed


def test_the_default_context_is_the_checkpoints_and_a_longer_one_is_refused(tmp_path, monkeypatch):
    model = checkpoint(tmp_path, text_config={"max_position_embeddings": 4096})
    assert [context_length(model, requested, 32000) for requested in (0, 1024, 4096)] == [4096, 1024, 4096]
    assert context_length(model, 0, 2048) == 2048
    assert context_length(checkpoint(tmp_path / "silent"), 0, 32000) == 32000
    with refused("checkpoint.context-too-short", name="max_model_len", value=4097, limit=4096, path=model):
        context_length(model, 4097, 32000)
    monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")  # vLLM's own switch for longer contexts
    assert context_length(model, 4097, 32000) == 4097


@pytest.mark.parametrize(
    ("positions", "settings", "served"),
    [
        (128000, {}, (32000, 16384)),
        (4096, {}, (4096, 2097)),
        (4096, {"max_tokens": 512}, (4096, 512)),
        (128000, {"max_model_len": 64000}, (64000, 16384)),
        (128000, {"max_model_len": 1000}, (1000, 512)),
    ],
)
def test_a_proxy_gets_lengths_that_fit_its_checkpoint(tmp_path, positions, settings, served):
    model = checkpoint(tmp_path, max_position_embeddings=positions)
    fitted = ProxySettings(tensor_parallel_size=1, **settings).fitted(model, "cpu")
    assert (fitted.max_model_len, fitted.max_tokens) == served


def test_an_answer_as_long_as_the_checkpoints_context_is_refused(tmp_path):
    model = checkpoint(tmp_path, max_position_embeddings=4096)
    with pytest.raises(UserError, match="max_tokens is 4096, which leaves no room for a prompt in the 4096 tokens"):
        ProxySettings(max_tokens=4096).fitted(model, "cpu")


@pytest.mark.parametrize(
    ("config", "parallel", "code", "values"),
    [
        ({"num_attention_heads": 28, "num_key_value_heads": 4}, 8, "indivisible-heads", {"heads": 28, "value": 8}),
        (
            {"text_config": {"num_attention_heads": 16, "num_key_value_heads": 6}},
            4,
            "indivisible-heads",
            {"heads": 6, "value": 4},
        ),
        ({"num_attention_heads": 16, "vision_config": {"num_heads": 6}}, 4, "indivisible-heads", {"heads": 6}),
        ({"torch_dtype": "bf16"}, 1, "bad-dtype", {"value": "bf16"}),
        ({"text_config": {"dtype": "int4"}}, 1, "bad-dtype", {"value": "int4"}),
    ],
)
def test_a_checkpoint_that_vllm_would_not_start_is_refused(tmp_path, config, parallel, code, values):
    with refused(f"checkpoint.{code}", **values):
        check_servable(checkpoint(tmp_path, **config), parallel)


def test_gpus_that_share_heads_evenly_and_usual_dtypes_are_accepted(tmp_path):
    heads = {"num_attention_heads": 28, "num_key_value_heads": 4, "vision_config": {"num_heads": 16}}
    for parallel in (1, 2, 4):
        check_servable(checkpoint(tmp_path, **heads, torch_dtype="bfloat16"), parallel)
    ProxySettings(tensor_parallel_size=8).fitted(checkpoint(tmp_path, **heads), "cpu")  # on CPUs it is not used


def test_a_checkpoint_without_a_chat_template_in_any_file_is_refused(tmp_path):
    model = checkpoint(tmp_path, template=False)
    with refused("checkpoint.no-chat-template", path=model):
        check_servable(model)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    check_servable(model)


def test_rollouts_longer_than_the_policys_context_are_refused_before_anything_starts(tmp_path):
    model = checkpoint(tmp_path, max_position_embeddings=8192, num_attention_heads=6)
    with refused("checkpoint.context-too-short", value=12288, limit=8192):
        RlSettings().check_policy(model, "cuda")
    with refused("checkpoint.indivisible-heads", value=4, heads=6):
        RlSettings(tensor_parallel_size=4).check_policy(model, "cuda")
    RlSettings(max_response_length=4096).check_policy(model, "cuda")


def test_an_evaluation_records_the_length_it_is_served_with(tmp_path):
    model = checkpoint(tmp_path, max_position_embeddings=4096)
    assert made_by(model, "grm", EvaluateSettings(), 64)["max_model_len"] == 4096
    with refused("checkpoint.context-too-short", value=8192, limit=4096):
        made_by(model, "grm", EvaluateSettings(max_model_len=8192), 64)


def test_commands_refuse_a_context_above_the_checkpoints_in_one_line(tmp_path):
    model = checkpoint(tmp_path, max_position_embeddings=4096)
    (model / "preprocessor_config.json").write_text("{}")
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"id": "1", "prompt": "q", "chosen": "a", "rejected": "b"}\n')
    options = ["--max-model-len", "5000", "--device", "cpu"]
    for group, words in (
        (proxy, ["serve", "--model", str(model), *options]),
        (evaluation, ["run", "--pairs", str(pairs), "--judge", str(model), "--out", str(tmp_path / "out"), *options]),
    ):
        error = CliRunner().invoke(group, words).exception
        assert isinstance(error, UserError), error
        assert (error.code, error.values["value"]) == ("checkpoint.context-too-short", 5000)
        assert error.values["limit"] == 4096


@pytest.mark.parametrize(
    ("answer", "max_tokens"),
    [
        ({"data": [{"id": "other", "max_model_len": 64}, {"id": "proxy", "max_model_len": 4096}]}, 2097),
        ({"data": [{"id": "proxy", "max_model_len": 131072}]}, 16384),
        ({"data": [{"id": "proxy"}]}, 16384),
        ({"data": [{"id": "proxy", "max_model_len": "4096"}]}, 16384),
        ({"data": "?"}, 16384),
        (["?"], 16384),
        (None, 16384),
    ],
)
def test_answers_of_a_remote_server_fit_its_context(answer, max_tokens):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append((self.path, self.headers["Authorization"]))
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    requests: list = []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        assert Endpoints.of_urls([url], "proxy", None, 0, 64).max_tokens == max_tokens
        assert Endpoints.of_urls([url], "proxy", None, 50, 64).max_tokens == 50
        if max_tokens == 2097:
            with pytest.raises(UserError, match="--max-tokens 4096 leaves no room for a prompt in the server's 4096"):
                Endpoints.of_urls([url], "proxy", None, 4096, 64)
        server.shutdown()
    assert set(requests) == {("/v1/models", "Bearer none")}
