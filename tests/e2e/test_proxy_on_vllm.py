"""One replica of the proxy as in a job: the real server with a tiny checkpoint, and the real client."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.pool.routing import Cause
from proxygrm.serving.replicas.serve import Serving, serve
from proxygrm.serving.settings import ProxySettings

pytestmark = pytest.mark.heavy

SETTINGS = ProxySettings(
    tensor_parallel_size=1, max_model_len=1024, max_num_seqs=16, max_tokens=16, call_timeout_s=600, start_timeout_s=900
)
RUBRIC = "<rubric>\n1. Names the colour red (100%)\n</rubric>"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny_model(folder, demo_corpus(0, n=200), seed=0)
    return folder


@pytest.fixture(scope="module")
def serving(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "images").mkdir()
    (folder / "images" / "red.png").write_bytes(image_bytes())
    with serve(checkpoint, SETTINGS, folder, device="cpu", images=folder / "images") as pool:
        yield pool
    assert not pool.endpoints_file.exists()
    assert child_processes() == {}


def image_bytes(side: int = 56) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (side, side), (200, 30, 30)).save(content, "PNG")
    return content.getvalue()


def judgements(serving: Serving, number: int) -> list[Any]:
    async def scene() -> list[Any]:
        client = ProxyClient(serving.endpoints_file)
        responses = ("The square is red.", "The square is blue.")
        calls = (client.judge(f"Colour {i}?", *responses, RUBRIC, image_bytes(), label=1) for i in range(number))
        try:
            return await asyncio.gather(*calls)
        finally:
            await client.aclose()

    return asyncio.run(scene())


def answered(judgement: Any) -> bool:
    """A random model answers, though its answer is hardly ever well-formed."""
    return judgement.text != "" and judgement.cause in (None, Cause.UNPARSED, Cause.CUT_OFF)


def child_processes() -> dict[int, list[str]]:
    """Command line of every descendant of this process."""
    return {process.pid: process.cmdline() for process in psutil.Process().children(recursive=True)}


def another_user_can_listen_on(port: int) -> bool:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setuid(65534)
            squatter = socket.socket()
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            squatter.bind(("127.0.0.1", port))
            squatter.listen()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def server_pid() -> int:
    (pid,) = [pid for pid, line in child_processes().items() if line[1:3] == ["-m", "vllm.entrypoints.cli.main"]]
    return pid


def test_a_replica_answers_only_callers_with_the_key(serving: Serving) -> None:
    endpoints = Endpoints.read(serving.endpoints_file)
    body = {"model": endpoints.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    with httpx.Client(base_url=endpoints.replicas[0], trust_env=False, timeout=30) as client:
        for path in ("/v1/chat/completions", "/invocations"):
            assert client.post(path, json=body).status_code == 401
            assert client.post(path, json=body, headers={"Authorization": "Bearer no"}).status_code == 401
            authorized = client.post(path, json=body, headers={"Authorization": f"Bearer {endpoints.api_key}"})
            assert authorized.status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/health").status_code == 200
    assert not [line for line in child_processes().values() if endpoints.api_key in " ".join(line)]
    assert all(answered(judgement) for judgement in judgements(serving, 8))


def test_half_requests_of_others_do_not_shut_out_a_caller_with_the_key(serving: Serving) -> None:
    port = serving.servers[0].port
    half, slow = b"POST /v1/completions HTTP/1.1\r\nX-Fi", b"POST / HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n{"
    with contextlib.ExitStack() as stack:
        for data in [half, slow] * 100:
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(data)
        assert all(answered(judgement) for judgement in judgements(serving, 8))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:  # vLLM's own server would continue to read
        peer.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
        assert peer.recv(12) == b"HTTP/1.1 400"


def test_an_image_is_sent_by_path_or_once_in_full_and_then_by_uuid_with_the_same_answers(
    serving: Serving,
) -> None:
    by_path = serving.endpoints_file.parent / "images" / "red.png"

    async def scene() -> tuple[list[str], list[int], list[Any]]:
        texts, uploads, problems = [], [], []
        for image, by_name in ((by_path, False), (image_bytes(), False), (by_path, True), (image_bytes(), True)):
            client = ProxyClient(replace(Endpoints.read(serving.endpoints_file), images_by_name=by_name))
            texts_sent = ("Colour?", "The square is red.", "The square is blue.", RUBRIC)
            for _ in range(2):
                judged = await asyncio.gather(*(client.judge(*texts_sent, image) for _ in range(4)))
                texts += [judgement.text for judgement in judged]
                problems += [judgement for judgement in judged if not answered(judgement) or judgement.retries]
            uploads.append(client.snapshot()["uploads"])
            await client.aclose()
        return texts, uploads, problems

    texts, uploads, problems = asyncio.run(scene())
    assert problems == []
    assert len(set(texts)) == 1
    assert uploads == [0, 8, 0, 1]


def test_a_replica_that_lacks_an_image_sent_by_uuid_gets_it_in_the_same_attempt(serving: Serving) -> None:
    async def scene() -> list[tuple[bool, int, int]]:
        client = ProxyClient(serving.endpoints_file)
        delivery = client._state().sender._deliveries[client.endpoints.replicas[0]]
        seen = []
        for number in range(4):  # vLLM cuts the connection a varying moment after each refusal
            other = image_bytes() + b"another name for the same pixels %d" % number
            delivery._remember(hashlib.sha256(other).hexdigest())  # as if the replica had restarted since
            before = client.snapshot()["uploads"]
            judgement = await client.judge("Colour?", "Red.", "Blue.", RUBRIC, other)
            seen.append((answered(judgement), judgement.retries, client.snapshot()["uploads"] - before))
        await client.aclose()
        return seen

    assert asyncio.run(scene()) == [(True, 0, 1)] * 4


def test_an_image_sent_with_too_long_a_text_is_not_lost_to_the_other_rollouts_that_show_it(
    serving: Serving,
) -> None:
    """vLLM's front then believes that its engine has the image, and fails every request with its uuid."""

    async def scene() -> tuple[Any, list[Any], int]:
        client = ProxyClient(serving.endpoints_file)
        large = image_bytes(420)  # 225 tokens
        too_long = await client.judge("Colour?", "Red.", "Blue.", f"<rubric>{'red ' * 830}</rubric>", large)
        others = (client.judge("Colour?", "Red.", "Blue.", f"{RUBRIC} {i}", large) for i in range(4))
        judged = await asyncio.gather(*others)
        await client.aclose()
        return too_long, judged, client.snapshot()["uploads"]

    too_long, judged, uploads = asyncio.run(scene())
    assert too_long.cause is Cause.REFUSED
    assert [(answered(judgement), judgement.retries) for judgement in judged] == [(True, 0)] * 4
    assert uploads == 2


def test_cancelled_calls_are_aborted_in_the_engine(serving: Serving) -> None:
    endpoints = Endpoints.read(serving.endpoints_file)

    async def in_the_engine(http: httpx.AsyncClient) -> int:
        text = (await http.get(f"{endpoints.replicas[0]}/metrics")).text
        lines = [
            line
            for line in text.splitlines()
            if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting{"))
        ]
        return int(sum(float(line.split()[-1]) for line in lines))

    async def calls_without_end(client: ProxyClient, number: int) -> None:
        """A single answer of the random model may be over before anyone has looked into the engine."""
        for repeat in itertools.count():
            rubric = f"{RUBRIC} {number} {repeat}"
            await client.judge("Colour?", "The square is red.", "The square is blue.", rubric, image_bytes())

    async def scene() -> tuple[int, int]:
        client = ProxyClient(serving.endpoints_file, max_tokens=700)
        headers = {"Authorization": f"Bearer {endpoints.api_key}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30) as http:
            calls = [asyncio.create_task(calls_without_end(client, i)) for i in range(12)]
            before, deadline = 0, time.monotonic() + 240
            while before < 4 and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                before = await in_the_engine(http)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await client.aclose()
            after, deadline = before, time.monotonic() + 3
            while after and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
                after = await in_the_engine(http)
            return before, after

    before, after = asyncio.run(scene())
    assert before >= 4
    assert after == 0


def test_a_killed_server_is_restarted_and_the_calls_made_meanwhile_are_answered(serving: Serving) -> None:
    killed = server_pid()
    os.kill(killed, signal.SIGKILL)
    if os.getuid() == 0:
        assert not another_user_can_listen_on(serving.servers[0].port)
    judged = judgements(serving, 4)  # sent while no server listens
    assert all(answered(judgement) for judgement in judged)
    assert all(judgement.retries > 0 for judgement in judged)
    assert server_pid() != killed
    deadline = time.monotonic() + 60
    while (status := serving.health()[0]).state != "healthy":
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    assert status.restarts == 1
