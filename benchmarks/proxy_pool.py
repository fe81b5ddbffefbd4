"""How close the proxy client is to an ideal one, on stub replicas with 64 slots and log-normal answer times.

    python benchmarks/proxy_pool.py [--scale 0.25] [--rounds 8] [--only rewards,images,routing]

Answer times have a mean of 2 s and a sigma of 0.3, times `scale` (images: not scaled): the client's own work then
weighs 1/scale times as much as in reality. A request's time is drawn from its number, so it is the same with both
clients.

Rates are over the first 90 % of the calls, while there is work for every slot; the rest is the time of the longest of
the last calls, which is chance (`to the last` includes it).

rewards   rewards a second against the ideal: 80 tasks per server that only post bodies built beforehand, so no slot is
          ever empty while there is work. 1, 2 and 4 servers; the aim is 0.97.
images  the same client with images of 1 megapixel that the servers cannot read, against images they read by
          path, with 4 servers. The aim is 0.95.
routing   requests that find their prompt's prefix on the replica they go to, against what a single replica
          would find (7 of 8), for a step of 256 prompts x 8 rollouts that arrives all at once and shuffled,
          with 1, 2, 4 and 8 replicas. Answers take 1/20 of the time. The aim is 0.95. For scale: random routing
          finds 1, 0.86, 0.63 and 0.39 of it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import math
import multiprocessing
import os
import random
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient, ProxyJudgement
from proxygrm.serving.pool.request import proxy_request

MEAN_S, SIGMA, SLOTS, GROUP = 2.0, 0.3, 64, 8
RESPONSES = ("The sign is red. " * 20, "The sign is blue. " * 20)
_NUMBER = re.compile(rb"call-(\d+)-")
_PROMPT = re.compile(rb"prompt-(\d+)-")
_NAME = re.compile(rb'"uuid":"([0-9a-f]+)"')
SCORES = b'{"scores":[0.5,0.25]}'
ANSWER = b'{"choices":[{"message":{"content":"<think>so</think><answer>1</answer>"},"finish_reason":"stop"}]}'


class Stub:
    """A replica with slots, which remembers its prompts and images."""

    def __init__(self, slots: int, scale: float) -> None:
        self.room, self.scale = asyncio.Semaphore(slots), scale
        self.forget()

    def forget(self) -> None:
        self.prompts: set[bytes] = set()
        self.images: set[bytes] = set()
        self.calls = self.warm = 0

    async def answer(self, request: web.Request) -> web.Response:
        start = end = b""
        async for chunk in request.content.iter_any():  # an image may be in between, which is not parsed
            start = start if len(start) > 2000 else start + chunk[:4000]
            end = (end + chunk)[-6000:]
        name = _NAME.search(end) or _NAME.search(start)
        if name is not None:
            if b'"image_url":null' in start and name[1] not in self.images:
                return web.Response(status=400, body=b"Cache miss for image at index 0 but data is not provided.")
            self.images.add(name[1])
        number, prompt = _NUMBER.search(end), _PROMPT.search(end)
        assert number is not None, "not a call of this benchmark"
        assert prompt is not None, "not a call of this benchmark"
        async with self.room:
            self.calls += 1
            self.warm += prompt[1] in self.prompts
            self.prompts.add(prompt[1])
            await asyncio.sleep(self.scale * answer_s(int(number[1])))
        body = SCORES if request.path == "/v1/score" else ANSWER
        return web.Response(body=body, content_type="application/json")

    async def counts(self, request: web.Request) -> web.Response:
        counts = {"calls": self.calls, "warm": self.warm, "prompts": len(self.prompts)}
        self.forget()
        return web.json_response(counts)


def answer_s(number: int) -> float:
    return MEAN_S * math.exp(random.Random(number).gauss(0, SIGMA) - SIGMA**2 / 2)


def stub_process(servers: int, slots: int, scale: float, ports: Any) -> None:
    async def serve() -> None:
        bound = []
        for _ in range(servers):
            stub, app = Stub(slots, scale), web.Application(client_max_size=64 * 1024**2)
            for path in ("/v1/chat/completions", "/v1/score"):
                app.router.add_post(path, stub.answer)
            app.router.add_post("/counts", stub.counts)
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
            bound.append(runner.addresses[0][1])
        ports.put(bound)
        await asyncio.Event().wait()

    asyncio.run(serve())


@contextmanager
def stubs(servers: int, slots: int, scale: float) -> Iterator[list[str]]:
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    process = context.Process(target=stub_process, args=(servers, slots, scale, ports), daemon=True)
    process.start()
    try:
        yield [f"http://127.0.0.1:{port}" for port in ports.get(timeout=600)]
    finally:
        process.terminate()
        process.join()


@dataclass(frozen=True)
class Call:
    number: int

    @property
    def texts(self) -> tuple[str, str, str, str]:
        rubric = f"<rubric>\ncall-{self.number}- {'Names the colour of the sign (10%). ' * 40}\n</rubric>"
        return (f"prompt-{self.number // GROUP}- What colour is the sign?", *RESPONSES, rubric)


def endpoints(urls: list[str], slots: int, **images: Any) -> Endpoints:
    return Endpoints(tuple(urls), "key", max_num_seqs=slots, **images)


@dataclass
class Ends:
    """When calls ended, in seconds since the start."""

    started: float = field(default_factory=time.monotonic)
    ends: list[float] = field(default_factory=list)

    def add(self) -> None:
        self.ends.append(time.monotonic() - self.started)

    @property
    def rate(self) -> float:
        most = int(0.9 * len(self.ends))
        return most / self.ends[most - 1]

    @property
    def rate_to_the_last(self) -> float:
        return len(self.ends) / self.ends[-1]


async def ideal(urls: list[str], bodies: list[bytes], path: str = "/v1/chat/completions") -> Ends:
    queue = iter(bodies)
    headers = {"Authorization": "Bearer key", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work(url: str) -> None:
            for body in queue:
                async with session.post(f"{url}{path}", data=body) as response:
                    assert response.status == 200
                    await response.read()
                ends.add()

        ends = Ends()
        await asyncio.gather(*(work(url) for _ in range(SLOTS * 5 // 4) for url in urls))
        return ends


async def ours(
    group: Endpoints, calls: int, images: list[Path] | None = None, shuffled: bool = False
) -> tuple[Ends, ProxyClient]:
    """Also the client, for its counters."""
    client = ProxyClient(group)
    order = list(range(calls))
    if shuffled:
        random.Random(0).shuffle(order)

    async def judge(number: int) -> ProxyJudgement:
        image = [images[number // GROUP]] if images else []
        judgement = await client.judge(*Call(number).texts, images=image, label=1)
        ends.add()
        return judgement

    ends = Ends()
    judgements = await asyncio.gather(*(judge(number) for number in order))
    await client.aclose()
    lost = [judgement.cause for judgement in judgements if judgement.verdict is None]
    assert not lost, lost[:3]
    return ends, client


async def counts(urls: list[str]) -> list[dict[str, int]]:
    async with aiohttp.ClientSession() as session:
        replies = []
        for url in urls:
            async with session.post(f"{url}/counts") as response:
                replies.append(await response.json())
        return replies


def rewards(scale: float, rounds: int) -> None:
    print("servers   calls   ideal 1/s   ours 1/s   ratio   to the last   cpu ms/call")
    for servers in (1, 2, 4):
        calls = servers * SLOTS * rounds
        with stubs(servers, SLOTS, scale) as urls:
            requests = (proxy_request(endpoints(urls, SLOTS), 1024, Call(number).texts, ()) for number in range(calls))
            best = asyncio.run(ideal(urls, [request.chat.body() for request in requests]))
            before = time.process_time()
            measured, _ = asyncio.run(ours(endpoints(urls, SLOTS), calls))
            cpu = (time.process_time() - before) / calls
        print(
            f"{servers:7d} {calls:7d} {best.rate:11.1f} {measured.rate:10.1f} {measured.rate / best.rate:7.3f}"
            f" {measured.rate_to_the_last / best.rate_to_the_last:13.3f} {1000 * cpu:13.2f}"
        )


def image() -> bytes:
    """A PNG of 1 megapixel whose size is like a photograph's."""
    import numpy as np
    from PIL import Image

    x = np.arange(1024)
    smooth = 100 + 60 * np.sin(x[:, None, None] / 90 + np.arange(3)) + 40 * np.cos(x[None, :, None] / 70)
    noise = np.random.default_rng(0).normal(0, 3, (1024, 1024, 3))
    content = io.BytesIO()
    Image.fromarray((smooth + noise).clip(0, 255).astype("uint8")).save(content, "PNG")
    return content.getvalue()


def images(scale: float, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        content = image()
        first = Path(folder).resolve() / "first.png"
        first.write_bytes(content)
        print("servers   calls   PNG MB   by path 1/s   by bytes 1/s   ratio   uploads")
        for servers in (4,):
            calls = servers * SLOTS * rounds
            paths = [first.with_name(f"{servers}-{number}.png") for number in range(calls // GROUP)]
            for path in paths:
                os.link(first, path)  # one file on the disk, but many images to the client
            with stubs(servers, SLOTS, scale) as urls:
                by_path = endpoints(urls, SLOTS, images_by_name=True, image_folder=str(first.parent))
                paths_sent, _ = asyncio.run(ours(by_path, calls, paths))
                asyncio.run(counts(urls))
                sent, client = asyncio.run(ours(endpoints(urls, SLOTS, images_by_name=True), calls, paths))
            print(
                f"{servers:7d} {calls:7d} {len(content) / 1e6:8.2f} {paths_sent.rate:13.1f} {sent.rate:14.1f}"
                f" {sent.rate / paths_sent.rate:7.3f} {client.snapshot()['uploads']:6d} for {calls // GROUP} prompts"
            )


def routing(scale: float, prompts: int) -> None:
    print("replicas   calls   prefix hits   of optimum   client's own count")
    calls = prompts * GROUP
    for servers in (1, 2, 4, 8):
        with stubs(servers, SLOTS, scale) as urls:
            client = asyncio.run(ours(endpoints(urls, SLOTS), calls, shuffled=True))[1]
            replies = asyncio.run(counts(urls))
        hits, best = sum(r["warm"] for r in replies) / sum(r["calls"] for r in replies), 1 - 1 / GROUP
        own = client.step_metrics()["proxy/prefix_hit_share"]
        print(f"{servers:8d} {calls:7d} {hits:13.3f} {hits / best:12.3f} {own:20.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.25, help="of the answer times")
    parser.add_argument("--rounds", type=int, default=8, help="calls for each slot")
    parser.add_argument("--prompts", type=int, default=256, help="of the step that is routed")
    parser.add_argument("--only", default="rewards,images,routing")
    arguments = parser.parse_args()
    scale, started = arguments.scale, time.monotonic()
    print(f"mean answer {scale * MEAN_S:.2f} s (2 s x {scale}), load average {os.getloadavg()[0]:.1f}")
    for name in arguments.only.split(","):
        print(f"\n{name}")
        {"rewards": rewards, "images": images, "routing": routing}[name](
            {"images": 1.0, "routing": 0.05}.get(name, scale),
            arguments.prompts if name == "routing" else arguments.rounds,
        )
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
