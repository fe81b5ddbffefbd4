"""`proxygrm proxy serve` as users start it: the real command line, supervision and clean-up, with a small package in
place of vLLM."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.proxy import proxy
from proxygrm.core.errors import UserError
from proxygrm.serving.endpoints import Endpoints
from support.refusals import code_of, refused

pytestmark = pytest.mark.slow

FAKE_VLLM = f"""
import json, os, sys
sys.path.insert(0, {str(Path(__file__).parents[4])!r})
from support.proxy.proving_server import Proving, Sharing
arguments = sys.argv[1:]
host, port = arguments[arguments.index("--host") + 1], int(arguments[arguments.index("--port") + 1])
class Handler(Proving):
    def answer(self):
        return json.dumps(dict(pid=os.getpid(), arguments=arguments)).encode()
Sharing((host, port), Handler).serve_forever()
"""
ROOT = Path(__file__).parents[5]


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "preprocessor_config.json"):
        (folder / name).write_text('{"model_type": "qwen2_5_vl"}')
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


@pytest.fixture
def environment(tmp_path):
    cli = tmp_path / "site" / "vllm" / "entrypoints" / "cli"
    cli.mkdir(parents=True)
    for folder in (cli, cli.parent, cli.parent.parent):
        (folder / "__init__.py").touch()
    (cli / "main.py").write_text(FAKE_VLLM)
    (tmp_path / "tmp").mkdir()
    return {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "TMPDIR": str(tmp_path / "tmp")}


def start(environment, *arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "jobs", "proxy", "serve", "--device", "cpu", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def read_until(process, word) -> list[str]:
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if word in line:
            return lines
    raise AssertionError(lines)


def health(url: str) -> dict:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.load(opener.open(f"{url}/health", timeout=60))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_replicas_are_served_with_a_private_key_and_a_signal_leaves_nothing_behind(
    tmp_path, model, environment, number
):
    process = start(environment, "--model", model, "--replicas", 2, "--images", tmp_path)
    lines = read_until(process, "Ctrl-C")
    file = Path(next(line for line in lines if line.startswith("endpoints")).split(": ")[1])
    endpoints = Endpoints.read(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(endpoints.replicas) == 2
    assert all(url.startswith("http://127.0.0.1:") for url in endpoints.replicas)
    assert endpoints.image_folder == str(tmp_path)
    served = [health(url) for url in endpoints.replicas]
    for arguments in (reply["arguments"] for reply in served):
        assert endpoints.api_key not in " ".join(arguments)
        assert arguments[arguments.index("--allowed-local-media-path") + 1] == str(tmp_path)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "stopped\n")
    assert not any(alive(reply["pid"]) for reply in served)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_signal_while_the_replicas_start_stops_them_too_and_a_given_folder_keeps_its_logs(
    tmp_path, model, environment
):
    (tmp_path / "site/vllm/entrypoints/cli/main.py").write_text("import time; print('loading'); time.sleep(60)")
    process = start(environment, "--model", model, "--dir", tmp_path / "run")
    read_until(process, "0 of 1 replicas healthy")
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["proxy-0.log"]


@pytest.mark.heavy
def test_a_killed_replica_is_reported_and_restarted_and_a_crash_loop_ends_with_one_line(tmp_path, model, environment):
    process = start(environment, "--model", model)
    lines = read_until(process, "Ctrl-C")
    url = next(line for line in lines if line.startswith("proxy-0")).split(": ")[1]
    os.kill(health(url)["pid"], signal.SIGKILL)
    read_until(process, "proxy-0: restarting")
    read_until(process, "proxy-0: healthy")
    (tmp_path / "site/vllm/entrypoints/cli/main.py").write_text("raise SystemExit('CUDA error: no device')")
    os.kill(health(url)["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert code_of(output) == "service.replica-failed"
    assert "CUDA error" in output.splitlines()[-1]


def invoke(*arguments) -> None:
    CliRunner().invoke(proxy, list(map(str, arguments)), catch_exceptions=False)


@pytest.mark.needs("vllm")
def test_what_is_missing_or_in_use_is_reported_before_anything_starts(tmp_path, model, monkeypatch):
    with pytest.raises(UserError, match="no checkpoint at"):
        invoke("serve", "--model", tmp_path / "gone", "--device", "cpu")
    with refused("file.not-a-folder", path=tmp_path / "gone"):
        invoke("serve", "--model", model, "--device", "cpu", "--images", tmp_path / "gone")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with refused("proxy.too-few-gpus", needed=4, gpus=2):
        invoke("serve", "--model", model, "--replicas", 2, "--tensor-parallel-size", 2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        in_use = {"address": "127.0.0.1", "port": port, "reason": "Address already in use"}
        with refused("proxy.port-unavailable", **in_use):
            invoke("serve", "--model", model, "--device", "cpu", "--port", port)
        with refused("proxy.port-unavailable", **in_use):
            invoke("front", "--url", "http://x:1", "--port", port, "--key-file", tmp_path / "key")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused("proxy.no-vllm"):
        invoke("serve", "--model", model)


def test_the_front_end_reports_what_is_wrong_with_its_servers(tmp_path):
    with refused("proxy.no-endpoints"):
        invoke("front")
    with refused("proxy.no-endpoints-file", path=tmp_path / "gone"):
        invoke("front", "--endpoints", tmp_path / "gone")
    with refused("proxy.not-a-url", url="127.0.0.1:9000"):
        invoke("front", "--url", "127.0.0.1:9000")
    with refused("proxy.url-twice"):
        invoke("front", "--url", "http://a:1", "--url", "http://a:1/v1/")
    (tmp_path / "key").touch()
    with refused("key-file.empty", path=tmp_path / "key"):
        invoke("front", "--url", "http://a:1", "--api-key-file", tmp_path / "key")
    (tmp_path / "key").write_text("two\nlines")
    with refused("key.unusable", path=tmp_path / "key"):
        invoke("front", "--url", "http://a:1", "--api-key-file", tmp_path / "key")
