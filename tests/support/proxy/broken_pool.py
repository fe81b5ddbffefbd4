"""A step's rollouts on a pool of real replicas, and the faults that are injected."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from aiohttp import ClientSession, web

from proxygrm.rewards.proxy_agreement import ProxyAgreement
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.reward_fn import _client, compute_score
from proxygrm.rl.plugins.step_rollouts import step_metrics
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.replicas.serve import Serving
from proxygrm.serving.replicas.server import ReplicaServer

GROUP = 2


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
    """A step of `number` rollouts, the first prompts with one image each. Checks what must hold whatever breaks: every
    rollout is scored +1 by the proxy or has no reward and a cause, and is counted once."""
    run = folder / f"step-{next(_numbers)}"
    file = endpoints.write(run / "endpoints.json")
    options = RewardOptions(str(run), str(run / "stop"), GROUP, endpoints=str(file)).write(run / "options.json")

    def call(i: int) -> Any:
        prompt = i // GROUP
        pair = {"question": f"Colour of {run.name}/{prompt}?", "response_1": "Red.", "response_2": "Blue.", "label": 1}
        critique = f"<rubric>\n1. Says {i} (100%)\n<justify>So.</justify>\n</rubric>\n<eval>It does.</eval>\n"
        paths = [str(images[prompt])] if prompt < len(images) else []
        return compute_score("x", critique + "<answer>1</answer>", "1", {**pair, "images": paths}, options=str(options))

    started = time.monotonic()
    client = _client(str(file))
    fault = asyncio.create_task(meanwhile(client)) if meanwhile else None
    results = await asyncio.gather(*(call(i) for i in range(number)))
    took_s = time.monotonic() - started
    if fault is not None:
        await fault
    await client.aclose()
    rows = [{**row, "group": i // GROUP} for i, row in enumerate(results)]
    step = Step(rows, step_metrics(rows, number, ProxyAgreement()), client.snapshot(), took_s)
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


def report(fault: str, step: Step, recovered_s: float | None = None) -> None:
    recovery = "" if recovered_s is None else f", back after {recovered_s:.0f} s"
    counted = {name: step.counted[name] for name in ("retried", "hedged", "hedges_won")}
    print(f"\nFAULT {fault}: {dict(step.outcomes)} in {step.took_s:.1f} s{recovery}; {counted}")


async def in_mid_batch(client: ProxyClient, url: str) -> None:
    """Wait until the replica has given some answers and others are in progress."""
    while client.snapshot()["scored"] < 4:
        await asyncio.sleep(0.01)
    balancer = client._state().balancer
    while balancer.in_flight[url] < 4:
        assert balancer.in_flight.total(), "the batch is over"
        await asyncio.sleep(0)


# ---- wrong answers


Fault = Callable[[web.Request, Callable[[], Awaitable[web.Response]]], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def faulty(endpoints: Endpoints, fault: Fault, number: int) -> Any:
    """The endpoints with a misbehaving reverse proxy in front of the first `number` replicas."""
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
        # Gates cannot prove the key: they are another server between the client and the replica.
        yield replace(endpoints, replicas=(*gates, *endpoints.replicas[number:]), proven=False)


# ---- processes that hang or end, and a full disk


def processes(server: ReplicaServer) -> list[psutil.Process]:
    """vLLM's front and engine of a replica, as far as they are alive."""
    fronts = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if str(server.port) in command and command[1:2] == ["-m"] and process.status() != psutil.STATUS_ZOMBIE:
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


def back(server: ReplicaServer, restarts: int) -> float:
    """Wait for a replica that was killed; returns for how long (s). restarts: how many it had before."""
    # By the count: a step that takes long may end when the replica is back already.
    noticed_s = until(lambda: server.status().restarts > restarts, 60, "the supervisor did not notice")
    time.sleep(0.1)  # the state follows the count
    return noticed_s + until(lambda: server.status().state == "healthy", 400, "it did not come back")


@contextlib.contextmanager
def full_disk(serving: Serving) -> Iterator[None]:
    """No room for another byte of the replicas' logs."""
    logs = serving.endpoints_file.parent
    if not logs.is_mount():  # mounting is not permitted: limit the size of files instead
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
