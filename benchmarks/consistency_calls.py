"""A step's calls to the consistency judge, on stub servers, beside the way R1-Reward's released service makes them.

    python benchmarks/consistency_calls.py --rollouts 256 --right 0.6

The released service handles one sample at a time and calls the judge for each, also where the answer is wrong and the
judge's opinion has no weight. Ours is the reward `consistency` behind verl's reward function: calls at once, and for
right answers only. Both get the same judgements and talk to the same servers, whose answers take log-normal times. The
factor has two parts: the calls that are not made, and those that do not wait for each other.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import aiohttp
from aiohttp import web

from proxygrm.rewards.consistency import Consistency
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins import reward_fn

TEXT = "<think>The first names the red bicycle.\nThe second names a boat.\nSo {} is better.</think><answer>{}</answer>"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=256)
    parser.add_argument("--right", type=float, default=0.6, help="share of right answers")
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--slots", type=int, default=64, help="requests that a server works on at once")
    parser.add_argument("--median-s", type=float, default=0.05, help="of a server's time for an answer")
    options = parser.parse_args()
    draw = random.Random(0)
    answers = [1 if draw.random() < options.right else 2 for _ in range(options.rollouts)]
    texts = [TEXT.format(answer, answer) for answer in answers]
    servers = [Judge(options.slots, options.median_s, seed) for seed in range(options.servers)]
    urls = [await server.start() for server in servers]
    print("| | calls | seconds |")
    print("|---|---|---|")
    all_s = await one_at_a_time(texts, urls)
    calls = [taken(servers)]
    print(f"| one at a time, every sample | {calls[0]} | {all_s:.2f} |")
    right_s = await one_at_a_time([text for text, answer in zip(texts, answers, strict=True) if answer == 1], urls)
    print(f"| one at a time, right answers only | {taken(servers)} | {right_s:.2f} |")
    our_s = await ours(texts, servers, urls)
    calls.append(taken(servers))
    print(f"| the reward `consistency` | {calls[1]} | {our_s:.2f} |")
    print(
        f"\n{all_s / our_s:.0f} times as fast: {all_s / right_s:.2f} x by the {calls[0] - calls[1]} calls not made, "
        f"{right_s / our_s:.0f} x by calls at once"
    )
    for server in servers:
        await server.stop()


class Judge:
    """An OpenAI-compatible server with some slots, which always answers 1."""

    def __init__(self, slots: int, median_s: float, seed: int) -> None:
        self.slots, self.median_s, self.draw, self.calls = asyncio.Semaphore(slots), median_s, random.Random(seed), 0

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.calls += 1
        async with self.slots:
            await asyncio.sleep(self.median_s * self.draw.lognormvariate(0, 0.5))
        return web.json_response({"choices": [{"message": {"content": "1"}}]})

    async def start(self) -> str:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0, backlog=1024)  # a step's connections come at once
        await site.start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self.runner.cleanup()


def taken(servers: list[Judge]) -> int:
    """Calls since the last time."""
    calls = sum(server.calls for server in servers)
    for server in servers:
        server.calls = 0
    return calls


async def one_at_a_time(texts: list[str], urls: list[str]) -> float:
    reward = Consistency()
    start = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        for number, text in enumerate(texts):
            sent = reward.to_judge(reward.read(text))
            assert sent is not None
            async with session.post(urls[number % len(urls)] + sent.path, json=dict(sent.body)) as response:
                await response.json()
    return time.perf_counter() - start


async def ours(texts: list[str], servers: list[Judge], urls: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = RewardOptions(folder, f"{folder}/stop", 1, reward=Consistency(), services={"judge": urls}).write(
            Path(folder, "options.json")
        )

        async def score(text: str) -> dict[str, float | str]:
            return await reward_fn.compute_score("r1", text, "1", {"label": "1"}, options=str(file))

        await score(TEXT.format(1, 1))  # imports, and the first connection
        taken(servers)
        start = time.perf_counter()
        rows = await asyncio.gather(*(score(text) for text in texts))
        took = time.perf_counter() - start
        assert not any(row["unscored"] for row in rows)
        await reward_fn._service("judge", tuple(urls), "").close()
    return took


if __name__ == "__main__":
    asyncio.run(main())
