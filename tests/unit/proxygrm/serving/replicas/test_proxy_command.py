"""`proxygrm proxy serve` as people start it. In vLLM's place stands a small package of the same name, so that what is
run is the real command line, supervision and cleaning up."""

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
from proxygrm.serving.endpoints import Endpoints

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
    return json.load(opener.open(f"{url}/health", timeout=5))


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
    process = start(environment, "--model", model, "--replicas", 2, "--pictures", tmp_path)
    lines = read_until(process, "Ctrl-C")
    file = Path(next(line for line in lines if line.startswith("endpoints")).split(": ")[1])
    found = Endpoints.read(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(found.replicas) == 2
    assert all(url.startswith("http://127.0.0.1:") for url in found.replicas)
    assert found.picture_folder == str(tmp_path)
    served = [health(url) for url in found.replicas]
    for one in served:
        assert found.api_key not in " ".join(one["arguments"])
        assert one["arguments"][one["arguments"].index("--allowed-local-media-path") + 1] == str(tmp_path)
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "stopped\n")
    assert not any(alive(one["pid"]) for one in served)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_signal_while_the_replicas_start_ends_them_too_and_given_folders_keep_their_logs(
    tmp_path, model, environment
):
    (tmp_path / "site/vllm/entrypoints/cli/main.py").write_text("import time; print('loading'); time.sleep(60)")
    process = start(environment, "--model", model, "--dir", tmp_path / "run")
    read_until(process, "0 of 1 replicas healthy")
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["proxy-0.log"]


@pytest.mark.heavy
def test_a_killed_replica_is_said_to_restart_and_a_crash_loop_ends_with_one_line(tmp_path, model, environment):
    process = start(environment, "--model", model)
    lines = read_until(process, "Ctrl-C")
    url = next(line for line in lines if line.startswith("proxy-0")).split(": ")[1]
    os.kill(health(url)["pid"], signal.SIGKILL)
    read_until(process, "proxy-0: restarting")
    read_until(process, "proxy-0: healthy")
    (tmp_path / "site/vllm/entrypoints/cli/main.py").write_text("raise SystemExit('CUDA error: no device')")
    os.kill(health(url)["pid"], signal.SIGKILL)
    said, _ = process.communicate(timeout=40)
    assert process.returncode == 2
    assert "failed after 3 restarts" in said.splitlines()[-1]
    assert "CUDA error" in said.splitlines()[-1]


def refused(*arguments) -> str:
    found = CliRunner().invoke(proxy, list(map(str, arguments)))
    return str(found.exception)


@pytest.mark.needs("vllm")
def test_what_is_missing_or_taken_is_said_in_one_line_before_anything_starts(tmp_path, model, monkeypatch):
    assert "no checkpoint at" in refused("serve", "--model", tmp_path / "gone", "--device", "cpu")
    assert "no folder" in refused("serve", "--model", model, "--device", "cpu", "--pictures", tmp_path / "gone")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert "need 4, 2 can be seen" in refused("serve", "--model", model, "--replicas", 2, "--tensor-parallel", 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}: Address already in use" in refused(
            "serve", "--model", model, "--device", "cpu", "--port", port
        )
        assert f"port {port}: Address already in use" in refused(
            "front", "--url", "http://x:1", "--port", port, "--key-file", tmp_path / "key"
        )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "vllm is not installed" in refused("serve", "--model", model)


def test_the_front_end_says_what_is_wrong_with_what_it_is_attached_to(tmp_path):
    assert "either --endpoints FILE or one --url" in refused("front")
    assert "no endpoints file" in refused("front", "--endpoints", tmp_path / "gone")
    assert "not the URL of a server" in refused("front", "--url", "127.0.0.1:9000")
    assert "given twice" in refused("front", "--url", "http://a:1", "--url", "http://a:1/v1/")
    (tmp_path / "key").touch()
    assert "no key in" in refused("front", "--url", "http://a:1", "--api-key-file", tmp_path / "key")
