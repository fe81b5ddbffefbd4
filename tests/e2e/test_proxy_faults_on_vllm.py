"""A step's rollouts when real replicas fail; the results are the table in docs/proxy.md.

Two vLLM servers hold a tiny model that always says 1. Every rollout goes through RL's own reward function, so the
counts are those of the sampler. Figures for the table: `pytest -s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aiohttp import web

from proxygrm.rl.plugins.step_rollouts import why_stop
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.replicas.serve import Serving, serve
from proxygrm.serving.settings import ProxySettings
from support.proxy.broken_pool import (
    Fault,
    Step,
    back,
    faulty,
    full_disk,
    in_mid_batch,
    judged,
    kill,
    processes,
    report,
    until,
)
from support.refusals import refused

pytestmark = pytest.mark.heavy

SETTINGS = ProxySettings(
    replicas=2,
    tensor_parallel_size=1,
    max_model_len=1024,
    max_num_seqs=16,
    max_tokens=64,
    mode="verdict",
    start_timeout_s=900,
    max_restarts=2,
)
DISK_BYTES = 8 << 20
NEVER_SENT = {"proxy_breaker_open", "proxy_no_room"}
"""Causes of calls that were never sent, because every replica had failed already."""


# ---- the pool


def always_writes(token: int, folder: Path) -> None:
    """Change a checkpoint so that every next token is `token`: one number of the hidden state becomes large, and only
    this token's row of the output layer looks at it."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][:, 0] = 100.0
    weights["model.norm.weight"][0] = 1.0
    weights["lm_head.weight"][:, 0] = 0.0
    weights["lm_head.weight"][token, 0] = 10.0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny_model(folder, demo_corpus(0, n=200), seed=0)
    (one,) = AutoTokenizer.from_pretrained(folder).encode("1")
    always_writes(one, folder)
    return folder


@pytest.fixture(scope="module")
def serving(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The pool; its logs are on a separate small disk where this process may mount one."""
    images, logs = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("logs")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(logs)]
    with contextlib.suppress(OSError):
        subprocess.run(mount, capture_output=True, check=False)
    try:
        with serve(checkpoint, SETTINGS, logs, device="cpu", images=images) as pool:
            yield pool
    finally:
        if logs.is_mount():
            subprocess.run(["umount", str(logs)], check=True)


# ---- wrong answers


def test_two_healthy_replicas_score_every_rollout(serving: Serving, tmp_path: Path) -> None:
    step = asyncio.run(judged(Endpoints.read(serving.endpoints_file), tmp_path, 64))
    assert step.outcomes == {"scored": 64}
    assert len({row["proxy_replica"] for row in step.rows}) == 2
    # The second of a prompt's two calls goes where the first went, unless that replica has much more to do than the
    # other by then. On a slow machine a few of the 32 prompts are split, each for 1/64.
    assert 0.4 <= step.metrics["proxy/prefix_hit_share"] <= 0.5


async def answers_500(request: web.Request, forward: Any) -> web.Response:
    return web.Response(status=500, text="CUDA error: an illegal memory access was encountered")


async def garbage(request: web.Request, forward: Any) -> web.Response:
    answer = b'{"choices": [{"message": {"content": "1"}, "finish_reason": "stop"}]}'
    return web.Response(body=bytes(reversed(answer)), content_type="application/json")


async def late(request: web.Request, forward: Any) -> web.Response:
    answer = await forward()  # the replica has answered in time; only the response is late
    await asyncio.sleep(6.0)  # an attempt may take half of a call's time
    return answer


@pytest.mark.parametrize(
    ("fault", "cause", "deadline_s"),
    [(answers_500, "proxy_http_error", 30.0), (garbage, "proxy_garbage", 30.0), (late, "proxy_timeout", 10.0)],
)
def test_calls_that_one_replica_fails_are_judged_by_the_other_and_calls_that_both_fail_have_a_cause(
    serving: Serving, tmp_path: Path, fault: Fault, cause: str, deadline_s: float
) -> None:
    endpoints = replace(Endpoints.read(serving.endpoints_file), call_timeout_s=deadline_s)

    async def scene() -> tuple[Step, Step]:
        async with faulty(endpoints, fault, 1) as half_broken:
            first = await judged(half_broken, tmp_path, 32)
        async with faulty(replace(endpoints, call_timeout_s=4.0), fault, 2) as both:
            return first, await judged(both, tmp_path, 16)

    first, both = asyncio.run(scene())
    report(f"{fault.__name__}, one replica", first)
    report(f"{fault.__name__}, both", both)
    assert first.outcomes == {"scored": 32}
    assert first.counted["retried"] + first.counted["hedged"] > 0
    assert both.outcomes[cause] > 0
    assert set(both.outcomes) <= {cause, *NEVER_SENT}
    assert max(first.took_s - deadline_s, both.took_s - 4) < 15.0
    assert "16 of 16 rollouts have lost their reward" in why_stop(both.rows, 16, 0.02, 0.1)


def test_a_generation_that_never_closes_its_tags_is_cut_off_and_counted_as_the_proxys_own_failure(
    serving: Serving, tmp_path: Path
) -> None:
    step = asyncio.run(judged(replace(Endpoints.read(serving.endpoints_file), mode="critique"), tmp_path, 8))
    report("never closes its tags", step)
    assert step.outcomes == {"proxy_cut_off": 8}
    assert step.counted["requests"] == 8  # greedy: another request would give the same
    assert "no verdict on 8 of 8" in why_stop(step.rows, 8, 0.02, 0.1)


def test_a_missing_image_costs_only_the_rollouts_that_show_it(serving: Serving, tmp_path: Path) -> None:
    from PIL import Image

    endpoints = Endpoints.read(serving.endpoints_file)
    images = [Path(endpoints.image_folder) / f"{i}.png" for i in range(4)]
    for i, path in enumerate(images):
        content = io.BytesIO()
        Image.new("RGB", (56, 56), (60 * i, 30, 30)).save(content, "PNG")
        path.write_bytes(content.getvalue())

    async def scene() -> tuple[Step, Step]:
        before = await judged(endpoints, tmp_path, 8, images)
        images[1].unlink()
        return before, await judged(endpoints, tmp_path, 8, images)

    before, after = asyncio.run(scene())
    report("an image is missing", after)
    assert before.outcomes == {"scored": 8}
    assert after.outcomes == {"scored": 6, "proxy_image_missing": 2}
    assert [row["group"] for row in after.rows if row["unscored"]] == [1, 1]
    assert before.counted["uploads"] == after.counted["uploads"] == 0  # all by path


# ---- processes that hang or end


def test_the_calls_of_a_replica_that_hangs_are_answered_by_the_other(serving: Serving, tmp_path: Path) -> None:
    endpoints = replace(Endpoints.read(serving.endpoints_file), call_timeout_s=40.0)
    stopped: list[psutil.Process] = []

    async def stop(client: ProxyClient) -> None:
        await in_mid_batch(client, endpoints.replicas[0])
        for process in processes(serving.servers[0]):
            process.suspend()
            stopped.append(process)

    try:
        step = asyncio.run(judged(endpoints, tmp_path, 256, meanwhile=stop))
    finally:
        for process in stopped:
            process.resume()
    report("a replica hangs", step)
    assert stopped
    assert step.outcomes == {"scored": 256}
    assert step.counted["retried"] + step.counted["hedged"] > 0
    assert serving.health()[0].restarts == 0  # it is still within HANGS_AFTER_S


def front_end(endpoints: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs", "proxy", "front", "--endpoints", str(endpoints), "--port", str(port)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_callers_of_a_killed_front_end_get_errors_and_continue_when_it_is_back(serving: Serving) -> None:
    process = front_end(serving.endpoints_file, 0)
    assert process.stdout is not None
    url = process.stdout.readline().decode().split()[2]
    body = {"question": "Colour?", "chosen": "Red.", "rejected": "Blue.", "answer": "1"}
    body["rubric"] = "<rubric>\nNames the colour (100%)\n</rubric>"
    rewards: Counter[float | str] = Counter()

    async def ask(http: httpx.AsyncClient) -> None:
        failed = False
        for _ in range(1500):
            try:
                answer = await http.post("/get_reward_mllm", json=body)
            except httpx.TransportError:
                failed = True
                await asyncio.sleep(0.2)
                continue
            rewards[answer.json()["reward"]] += 1
            rewards["retried"] += failed
            return

    async def scene() -> subprocess.Popen[bytes]:
        key = serving.endpoints_file.with_name("front.key").read_text().strip()
        limits = httpx.Limits(max_connections=16)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=30, trust_env=False) as http:
            calls = [asyncio.create_task(ask(http)) for _ in range(128)]
            while rewards[1.0] < 8:
                await asyncio.sleep(0.01)
            process.kill()
            restarted = front_end(serving.endpoints_file, int(url.rpartition(":")[2]))
            await asyncio.gather(*calls)
            return restarted

    started = time.monotonic()
    restarted = asyncio.run(scene())
    print(f"\nFAULT front end restarted: {dict(rewards)} in {time.monotonic() - started:.1f} s")
    restarted.send_signal(signal.SIGINT)
    assert restarted.wait(120) == 0
    process.wait()
    retried = rewards.pop("retried")
    assert rewards == {1.0: 128}
    assert retried > 0


def test_a_replica_whose_engine_is_killed_in_mid_batch_loses_nothing_and_comes_back(
    serving: Serving, tmp_path: Path
) -> None:
    endpoints = replace(Endpoints.read(serving.endpoints_file), call_timeout_s=120.0)
    victim = serving.servers[0]
    restarts = victim.status().restarts

    async def kill_engine(client: ProxyClient) -> None:
        await in_mid_batch(client, endpoints.replicas[0])
        kill(victim, engine=True)

    step = asyncio.run(judged(endpoints, tmp_path, 256, meanwhile=kill_engine))
    assert step.outcomes == {"scored": 256}
    assert step.counted["retried"] > 0
    report("kill -9 of an engine in mid-batch", step, back(victim, restarts))
    after = asyncio.run(judged(endpoints, tmp_path, 32))
    assert after.outcomes == {"scored": 32}
    assert len({row["proxy_replica"] for row in after.rows}) == 2


def test_a_full_disk_costs_nothing_and_when_all_are_killed_the_calls_wait_for_the_one_that_recovers(
    serving: Serving, tmp_path: Path
) -> None:
    endpoints = replace(Endpoints.read(serving.endpoints_file), call_timeout_s=400.0)
    lasting, crashing = serving.servers[1], serving.servers[0]

    async def kill_all(client: ProxyClient) -> None:
        await in_mid_batch(client, endpoints.replicas[0])
        for server in serving.servers:
            kill(server)
        deadline = time.monotonic() + 300
        while crashing.status().state != "failed":  # after each restart, until there are none left
            assert time.monotonic() < deadline, crashing.status()
            with contextlib.suppress(IndexError, psutil.Error):
                kill(crashing)
            await asyncio.sleep(0.5)

    with full_disk(serving):
        step = asyncio.run(judged(endpoints, tmp_path, 64))
        report("disk under the logs full", step)
        assert step.outcomes == {"scored": 64}
        step = asyncio.run(judged(endpoints, tmp_path, 256, meanwhile=kill_all))
        report("disk full, all killed, one comes back", step)
    assert step.outcomes == {"scored": 256}
    assert {row["proxy_replica"] for row in step.rows if row["proxy_retries"]} == {lasting.url}
    until(lambda: lasting.status().state == "healthy", 60, "the supervisor does not see that it is back")
    assert lasting.status().restarts == 1
    with refused("service.replica-failed", replica="proxy-0", restarts=2):
        serving.check()
