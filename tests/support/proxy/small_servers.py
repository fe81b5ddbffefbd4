"""A replica whose server is a small program in place of `vllm serve`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from proxygrm.serving.replicas.command import ReplicaSpec
from proxygrm.serving.services import server as supervision
from proxygrm.serving.settings import ProxySettings

# Answers /health with its process id, and exits with code 9 on any other path.
HTTP_SERVER = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from support.proxy.proving_server import Proving, Sharing
class Handler(Proving):
    def answer(self):
        if self.path != "/health":
            print("RuntimeError: the engine died", flush=True)
            os._exit(9)
        return str(os.getpid()).encode()
Sharing((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


def spec(tmp_path: Path, **settings) -> ReplicaSpec:
    proxy = ProxySettings(**{"max_model_len": 1024, "max_tokens": 64, "tensor_parallel_size": 1, **settings})
    return ReplicaSpec("proxy-0", "h100-2", "/models/proxy", "127.0.0.1", "cpu", (), tmp_path, proxy)


def small_server(script: str = HTTP_SERVER):
    return lambda spec, port: [sys.executable, "-c", script, spec.address, str(port)]


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(supervision, "HEALTH_EVERY_S", 0.05)
    monkeypatch.setattr(supervision, "pause_s", lambda restarts: 0.05)
