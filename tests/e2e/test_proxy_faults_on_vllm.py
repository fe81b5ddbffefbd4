"""What becomes of a step's rollouts when something breaks under real replicas; the table is in docs/proxy.md.

Two vLLM servers hold a tiny model that always says 1. Every rollout goes through RL's own reward function, so what is
counted here is what the sampler would count. Figures for the table: `pytest -s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from aiohttp import ClientSession, web

from proxygrm.errors import UserError
from proxygrm.proxy.client import ProxyClient
from proxygrm.proxy.endpoints import Endpoints
from proxygrm.proxy.serve import Serving, serve
from proxygrm.proxy.server import ReplicaServer
from proxygrm.proxy.settings import ProxySettings
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.parts import step_metrics, why_stop
from proxygrm.rl.reward_fn import _client, compute_score

pytestmark = pytest.mark.heavy

GROUP = 2
SETTINGS = ProxySettings(
    replicas=2,
    tensor_parallel=1,
    max_model_len=1024,
    max_num_seqs=16,
    max_tokens=64,
    mode="verdict",
    start_timeout_s=240,
    max_restarts=2,
)
DISK_BYTES = 8 << 20
NEVER_SENT = {"proxy_breaker_open", "proxy_no_room"}
"""Causes of calls that found every replica already known to be in trouble."""


# ---- the pool


def always_says(token: int, folder: Path) -> None:
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

    from proxygrm.tiny.corpus import demo_corpus
    from proxygrm.tiny.model import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny_model(folder, demo_corpus(0, n=200), seed=0)
    (one,) = AutoTokenizer.from_pretrained(folder).encode("1")
    always_says(one, folder)
    return folder


@pytest.fixture(scope="module")
def serving(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The pool; its logs are on a small disk of their own where this process may mount one."""
    pictures, logs = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("logs")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(logs)]
    with contextlib.suppress(OSError):
        subprocess.run(mount, capture_output=True, check=False)
    try:
        with serve(checkpoint, SETTINGS, logs, device="cpu", pictures=pictures) as found:
            yield found
    finally:
        if logs.is_mount():
            subprocess.run(["umount", str(logs)], check=True)


def processes(server: ReplicaServer) -> list[psutil.Process]:
    """vLLM's front and engine of a replica, as far as they live."""
    fronts = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if str(server.port) in line and line[1:2] == ["-m"] and process.status() != psutil.STATUS_ZOMBIE:
                fronts.append(process)
    return [*fronts, *(p for front in fronts for p in front.children() if p.name().startswith("VLLM"))]


def kill(server: ReplicaServer, engine: bool = False) -> None:
    processes(server)[1 if engine else 0].kill()


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait; returns for how long (s)."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, what
        time.sleep(0.1)
    return time.monotonic() - started


def back(server: ReplicaServer) -> float:
    """Wait for a replica that was killed; returns for how long (s)."""
    noticed_s = until(lambda: server.status().state == "restarting", 30, "nobody noticed")
    return noticed_s + until(lambda: server.status().state == "healthy", 120, "it did not come back")


# ---- a step


@dataclass(frozen=True)
class Step:
    rows: list[dict[str, Any]]
    metrics: dict[str, float]
    counted: dict[str, Any]
    took_s: float

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(row["problem"] if row["unscored"] else "scored" for row in self.rows)


_numbers = itertools.count()


async def judged(
    endpoints: Endpoints,
    folder: Path,
    number: int,
    images: Sequence[Path] = (),
    meanwhile: Callable[[ProxyClient], Awaitable[None]] | None = None,
) -> Step:
    """A step of `number` rollouts, the prompts one picture each as far as there are any; and what must hold of it
    whatever breaks: every rollout is scored +1 by the proxy or has no reward and a cause, and is counted once."""
    run = folder / f"step-{next(_numbers)}"
    file = endpoints.write(run / "endpoints.json")
    options = RewardOptions(str(run), str(run / "stop"), GROUP, endpoints=str(file)).write(run / "options.json")

    def call(i: int) -> Any:
        prompt = i // GROUP
        pair = {"question": f"Colour of {run.name}/{prompt}?", "response_1": "Red.", "response_2": "Blue.", "label": 1}
        critique = f"<rubric>\n1. Says {i} (100%)\n<justify>So.</justify>\n</rubric>\n<eval>It does.</eval>\n"
        shown = [str(images[prompt])] if prompt < len(images) else []
        return compute_score("x", critique + "<answer>1</answer>", "1", {**pair, "images": shown}, options=str(options))

    started = time.monotonic()
    client = _client(str(file))
    fault = asyncio.create_task(meanwhile(client)) if meanwhile else None
    found = await asyncio.gather(*(call(i) for i in range(number)))
    took_s = time.monotonic() - started
    if fault is not None:
        await fault
    await client.aclose()
    rows = [{**row, "group": i // GROUP} for i, row in enumerate(found)]
    step = Step(rows, step_metrics(rows, number), client.snapshot(), took_s)
    for row in rows:
        if row["unscored"]:
            assert str(row["problem"]).startswith("proxy_"), row
        else:
            assert (row["proxy"], row["score"]) == (1.0, 2.5), row
    counted = step.counted
    assert counted["calls"] == number == counted["scored"] + sum(counted["unscored"].values())
    by_cause = sum(count for name, count in step.metrics.items() if name.startswith("reward/unscored_by/"))
    assert step.metrics["reward/scored"] == counted["scored"] == number - by_cause
    return step


def tell(fault: str, step: Step, recovered_s: float | None = None) -> None:
    again = "" if recovered_s is None else f", back after {recovered_s:.0f} s"
    counted = {name: step.counted[name] for name in ("retried", "hedged", "hedges_won")}
    print(f"\nFAULT {fault}: {dict(step.outcomes)} in {step.took_s:.1f} s{again}; {counted}")


async def in_mid_batch(client: ProxyClient, url: str) -> None:
    """Until the replica has some answers behind it and others under way."""
    while client.snapshot()["scored"] < 4:
        await asyncio.sleep(0.01)
    balancer = client._state().balancer
    while balancer.in_flight[url] < 4:
        assert balancer.in_flight.total(), "the batch is over"
        await asyncio.sleep(0)


# ---- answers that are none


def test_two_healthy_replicas_score_every_rollout(serving: Serving, tmp_path: Path) -> None:
    step = asyncio.run(judged(Endpoints.read(serving.endpoints_file), tmp_path, 64))
    assert step.outcomes == {"scored": 64}
    assert len({row["proxy_replica"] for row in step.rows}) == 2
    assert step.metrics["proxy/prefix_hit_share"] == 0.5


Fault = Callable[[web.Request, Callable[[], Awaitable[web.Response]]], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def faulty(endpoints: Endpoints, fault: Fault, number: int) -> Any:
    """The endpoints with a reverse proxy that misbehaves before the first `number` replicas."""
    async with ClientSession() as session, contextlib.AsyncExitStack() as stack:

        async def gate(replica: str) -> str:
            async def handle(request: web.Request) -> web.StreamResponse:
                body = await request.read()

                async def forward() -> web.Response:
                    headers = {name: request.headers[name] for name in ("Authorization", "Content-Type")}
                    async with session.post(f"{replica}{request.path}", data=body, headers=headers) as answer:
                        return web.Response(body=await answer.read(), status=answer.status)

                return await fault(request, forward)

            app = web.Application()
            app.router.add_post("/{path:.*}", handle)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}"

        gates = [await gate(replica) for replica in endpoints.replicas[:number]]
        yield replace(endpoints, replicas=(*gates, *endpoints.replicas[number:]))


async def says_500(request: web.Request, forward: Any) -> web.Response:
    return web.Response(status=500, text="CUDA error: an illegal memory access was encountered")


async def garbage(request: web.Request, forward: Any) -> web.Response:
    answer = await forward()
    return web.Response(body=bytes(reversed(answer.body)), content_type="application/json")


async def late(request: web.Request, forward: Any) -> web.Response:
    answer = await forward()  # the replica has judged it, and in time; it only arrives too late
    await asyncio.sleep(6.0)
    return answer


@pytest.mark.parametrize(
    ("fault", "cause"), [(says_500, "proxy_http_error"), (garbage, "proxy_garbage"), (late, "proxy_timeout")]
)
def test_what_one_replica_spoils_the_other_judges_and_what_both_spoil_has_a_cause(
    serving: Serving, tmp_path: Path, fault: Fault, cause: str
) -> None:
    endpoints = replace(Endpoints.read(serving.endpoints_file), call_timeout_s=10.0)

    async def scene() -> tuple[Step, Step]:
        async with faulty(endpoints, fault, 1) as one:
            first = await judged(one, tmp_path, 32)
        async with faulty(replace(endpoints, call_timeout_s=4.0), fault, 2) as both:
            return first, await judged(both, tmp_path, 16)

    one, both = asyncio.run(scene())
    tell(f"{fault.__name__}, one replica", one)
    tell(f"{fault.__name__}, both", both)
    assert one.outcomes == {"scored": 32}
    assert one.counted["retried"] + one.counted["hedged"] > 0
    assert both.outcomes[cause] > 0
    assert set(both.outcomes) <= {cause, *NEVER_SENT}
    assert max(one.took_s - 10, both.took_s - 4) < 3.0
    assert "16 of 16 rollouts have lost their reward" in why_stop(both.rows, 16, 0.02, 0.1)


def test_a_generation_that_never_closes_its_tags_is_cut_off_and_counted_as_the_proxys_own_failure(
    serving: Serving, tmp_path: Path
) -> None:
    step = asyncio.run(judged(replace(Endpoints.read(serving.endpoints_file), mode="critique"), tmp_path, 8))
    tell("never closes its tags", step)
    assert step.outcomes == {"proxy_cut_off": 8}
    assert step.counted["requests"] == 8  # greedy: asking again would bring the same
    assert "no verdict on 8 of 8" in why_stop(step.rows, 8, 0.02, 0.1)


def test_a_picture_that_vanished_costs_the_rollouts_that_show_it_and_no_others(
    serving: Serving, tmp_path: Path
) -> None:
    from PIL import Image

    endpoints = Endpoints.read(serving.endpoints_file)
    pictures = [Path(endpoints.picture_folder) / f"{i}.png" for i in range(4)]
    for i, path in enumerate(pictures):
        content = io.BytesIO()
        Image.new("RGB", (56, 56), (60 * i, 30, 30)).save(content, "PNG")
        path.write_bytes(content.getvalue())

    async def scene() -> tuple[Step, Step]:
        there = await judged(endpoints, tmp_path, 8, pictures)
        pictures[1].unlink()
        return there, await judged(endpoints, tmp_path, 8, pictures)

    there, gone = asyncio.run(scene())
    tell("a picture vanished", gone)
    assert there.outcomes == {"scored": 8}
    assert gone.outcomes == {"scored": 6, "proxy_picture_missing": 2}
    assert [row["group"] for row in gone.rows if row["unscored"]] == [1, 1]
    assert there.counted["uploads"] == gone.counted["uploads"] == 0  # all by path


# ---- processes that stop, or end


def test_the_calls_of_a_replica_that_hangs_are_answered_by_the_other(serving: Serving, tmp_path: Path) -> None:
    endpoints = replace(Endpoints.read(serving.endpoints_file), call_timeout_s=20.0)
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
    tell("a replica hangs", step)
    assert stopped
    assert step.outcomes == {"scored": 256}
    assert step.counted["retried"] + step.counted["hedged"] > 0
    assert serving.health()[0].restarts == 0  # it was not given up yet


def front_end(endpoints: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs", "proxy", "front", "--endpoints", str(endpoints), "--port", str(port)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_callers_of_a_front_end_that_is_killed_hear_of_it_and_go_on_when_it_is_back(serving: Serving) -> None:
    process = front_end(serving.endpoints_file, 0)
    assert process.stdout is not None
    url = process.stdout.readline().decode().split()[2]
    asked = {"question": "Colour?", "chosen": "Red.", "rejected": "Blue.", "answer": "1"}
    asked["rubric"] = "<rubric>\nNames the colour (100%)\n</rubric>"
    rewards: Counter[float | str] = Counter()

    async def ask(http: httpx.AsyncClient) -> None:
        failed = False
        for _ in range(300):
            try:
                answer = await http.post("/get_reward_mllm", json=asked)
            except httpx.TransportError:
                failed = True
                await asyncio.sleep(0.2)
                continue
            rewards[answer.json()["reward"]] += 1
            rewards["had to ask again"] += failed
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
            again = front_end(serving.endpoints_file, int(url.rpartition(":")[2]))
            await asyncio.gather(*calls)
            return again

    started = time.monotonic()
    again = asyncio.run(scene())
    print(f"\nFAULT front end restarted: {dict(rewards)} in {time.monotonic() - started:.1f} s")
    again.send_signal(signal.SIGINT)
    assert again.wait(20) == 0
    process.wait()
    asked_again = rewards.pop("had to ask again")
    assert rewards == {1.0: 128}
    assert asked_again > 0


def test_a_replica_whose_engine_is_killed_in_mid_batch_loses_nothing_and_comes_back(
    serving: Serving, tmp_path: Path
) -> None:
    endpoints = replace(Endpoints.read(serving.endpoints_file), call_timeout_s=60.0)
    victim = serving.servers[0]

    async def kill_it(client: ProxyClient) -> None:
        await in_mid_batch(client, endpoints.replicas[0])
        kill(victim, engine=True)

    step = asyncio.run(judged(endpoints, tmp_path, 256, meanwhile=kill_it))
    assert step.outcomes == {"scored": 256}
    assert step.counted["retried"] > 0
    tell("kill -9 of an engine in mid-batch", step, back(victim))
    after = asyncio.run(judged(endpoints, tmp_path, 32))
    assert after.outcomes == {"scored": 32}
    assert len({row["proxy_replica"] for row in after.rows}) == 2


@contextlib.contextmanager
def full_disk(serving: Serving) -> Iterator[None]:
    """No room for another byte of the replicas' logs."""
    logs = serving.endpoints_file.parent
    if not logs.is_mount():  # no leave to mount: files that cannot grow any more are the next best
        for process in (p for server in serving.servers for p in processes(server)):
            process.rlimit(psutil.RLIMIT_FSIZE, (1, psutil.RLIM_INFINITY))
        yield
        return
    filler = logs / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(logs).free == 0
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_costs_nothing_and_when_all_are_killed_the_calls_wait_for_the_one_that_comes_back(
    serving: Serving, tmp_path: Path
) -> None:
    endpoints = replace(Endpoints.read(serving.endpoints_file), call_timeout_s=150.0)
    lasting, crashing = serving.servers[1], serving.servers[0]

    async def kill_all(client: ProxyClient) -> None:
        await in_mid_batch(client, endpoints.replicas[0])
        for server in serving.servers:
            kill(server)
        deadline = time.monotonic() + 60
        while crashing.status().state != "failed":  # whenever it has been started again, until nobody does any more
            assert time.monotonic() < deadline, crashing.status()
            with contextlib.suppress(IndexError, psutil.Error):
                kill(crashing)
            await asyncio.sleep(0.5)

    with full_disk(serving):
        step = asyncio.run(judged(endpoints, tmp_path, 64))
        tell("disk under the logs full", step)
        assert step.outcomes == {"scored": 64}
        step = asyncio.run(judged(endpoints, tmp_path, 256, meanwhile=kill_all))
        tell("disk full, all killed, one comes back", step)
    assert step.outcomes == {"scored": 256}
    assert {row["proxy_replica"] for row in step.rows if row["proxy_retries"]} == {lasting.url}
    assert (lasting.status().state, lasting.status().restarts) == ("healthy", 1)
    with pytest.raises(UserError, match=r"proxy-0 .* failed after 2 restarts: was killed"):
        serving.check()
