"""One replica of the proxy as it is in a job: the real server on a tiny checkpoint, asked by the real client."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from proxygrm.proxy.client import ProxyClient
from proxygrm.proxy.endpoints import Endpoints
from proxygrm.proxy.routing import Cause
from proxygrm.proxy.serve import Serving, serve
from proxygrm.proxy.settings import ProxySettings

pytestmark = pytest.mark.heavy

SETTINGS = ProxySettings(
    tensor_parallel=1, max_model_len=1024, max_num_seqs=16, max_tokens=16, call_timeout_s=200, start_timeout_s=200
)
RUBRIC = "<rubric>\n1. Names the colour red (100%)\n</rubric>"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from proxygrm.tiny.corpus import demo_corpus
    from proxygrm.tiny.model import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny_model(folder, demo_corpus(0, n=200), seed=0)
    return folder


@pytest.fixture(scope="module")
def serving(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serve(checkpoint, SETTINGS, tmp_path_factory.mktemp("proxy"), device="cpu") as found:
        yield found
    assert started_by_us() == {}


def picture() -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (56, 56), (200, 30, 30)).save(content, "PNG")
    return content.getvalue()


def judgements(serving: Serving, number: int) -> list[Any]:
    async def scene() -> list[Any]:
        client = ProxyClient(serving.endpoints_file)
        responses = ("The square is red.", "The square is blue.")
        calls = (client.judge(f"Colour {i}?", *responses, RUBRIC, picture(), label=1) for i in range(number))
        try:
            return await asyncio.gather(*calls)
        finally:
            await client.aclose()

    return asyncio.run(scene())


def answered(judgement: Any) -> bool:
    """A random model answers, though hardly ever to the contract."""
    return judgement.text != "" and judgement.cause in (None, Cause.UNPARSED, Cause.CUT_OFF)


def started_by_us() -> dict[int, list[str]]:
    """Command line of every process below this one."""
    return {process.pid: process.cmdline() for process in psutil.Process().children(recursive=True)}


def server_pid() -> int:
    (pid,) = [pid for pid, line in started_by_us().items() if line[1:3] == ["-m", "vllm.entrypoints.cli.main"]]
    return pid


def test_a_replica_answers_those_only_who_have_the_key(serving: Serving) -> None:
    found = Endpoints.read(serving.endpoints_file)
    body = {"model": found.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    with httpx.Client(base_url=found.replicas[0], trust_env=False, timeout=30) as client:
        for path in ("/v1/chat/completions", "/invocations"):
            assert client.post(path, json=body).status_code == 401
            assert client.post(path, json=body, headers={"Authorization": "Bearer no"}).status_code == 401
            right = client.post(path, json=body, headers={"Authorization": f"Bearer {found.api_key}"})
            assert right.status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/health").status_code == 200
    assert not [line for line in started_by_us().values() if found.api_key in " ".join(line)]
    assert all(answered(judgement) for judgement in judgements(serving, 8))


def test_a_killed_server_is_started_again_and_the_calls_of_meanwhile_are_answered(serving: Serving) -> None:
    killed = server_pid()
    os.kill(killed, signal.SIGKILL)
    found = judgements(serving, 4)  # asked while nobody listens
    assert all(answered(judgement) for judgement in found)
    assert all(judgement.retries > 0 for judgement in found)
    assert server_pid() != killed
    deadline = time.monotonic() + 10
    while (status := serving.health()[0]).state != "healthy":
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    assert status.restarts == 1
