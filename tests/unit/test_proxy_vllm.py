"""One replica of the real vLLM with a tiny model, through its life: start, judge, die, come back, end."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from proxygrm.proxy.client import ProxyClient
from proxygrm.proxy.routing import Cause
from proxygrm.proxy.serve import serve
from proxygrm.proxy.settings import ProxySettings
from proxygrm.tiny.corpus import demo_corpus
from proxygrm.tiny.model import build_tiny_model
from proxygrm.tiny.scenes import combinations, draw

SETTINGS = ProxySettings(
    replicas=1, tensor_parallel=1, max_model_len=512, max_num_seqs=16, max_tokens=8, start_timeout_s=240
)
PAIR = ("What colour is the square?", "The square is red.", "The square is blue.")


def engines(folder: Path) -> list[int]:
    """vLLM's processes that carry this test's folder in their command line or their parent's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes() and b"leash.py" not in (
                process / "cmdline"
            ).read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def status_of(url: str, key: str | None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.heavy
def test_a_real_replica_judges_and_comes_back_when_it_is_killed_without_losing_a_call(tmp_path):
    import random

    model = tmp_path / "tiny"
    build_tiny_model(model, demo_corpus(n=200))
    picture = draw(combinations("colour")[0], random.Random(0))

    async def judged(endpoints: Path, calls: int) -> tuple[list, dict]:
        client = ProxyClient(endpoints, timeout_s=150)
        rubrics = [f"<rubric>\nNames the colour {i} (100%)\n</rubric>" for i in range(calls)]
        found = await asyncio.gather(*(client.judge(*PAIR, rubric, picture, label=1) for rubric in rubrics))
        await client.aclose()
        return found, client.snapshot()

    with serve(model, SETTINGS, tmp_path / "proxy", device="cpu") as serving:
        url, key = serving.servers[0].url, ProxyClient(serving.endpoints_file).endpoints.api_key
        assert (status_of(f"{url}/v1/models", None), status_of(f"{url}/v1/models", key)) == (401, 200)

        found, counted = asyncio.run(judged(serving.endpoints_file, 16))
        # Random weights say nothing to the contract: an answer all the same, with text and nothing retried.
        assert {j.cause for j in found} <= {None, Cause.UNPARSED}
        assert all(j.text for j in found)
        assert counted["retried"] == 0

        (server,) = engines(model)
        os.kill(server, signal.SIGKILL)
        found, counted = asyncio.run(judged(serving.endpoints_file, 4))
        assert {j.cause for j in found} <= {None, Cause.UNPARSED}
        assert {j.replica for j in found} == {url}
        assert counted["retried"] > 0
        assert serving.health()[0].restarts == 1
    assert engines(model) == []
