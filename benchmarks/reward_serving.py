"""How close `proxygrm serve-reward` is to an ideal client of its replicas, and what ranking candidates together saves.

    python benchmarks/reward_serving.py [--scale 0.25] [--rounds 8] [--replicas 1,2,4] [--only rates,ranking,critiques]

rates    /score requests a second with 1, 2 and 4 stub replicas that score (64 slots, log-normal answer times of mean
         2 s times `scale`: benchmarks/proxy_pool.py), against an ideal asyncio client that posts bodies built
         beforehand to the replicas themselves. Of the pool in the caller's process, and over HTTP with the API in a
         process of its own. The aim is 0.97.
ranking  CPU seconds for the scores of 8 candidates in one request, where images and question are computed once, against
         8 requests of one candidate each, and the same 8 in one batch; real scorer, random weights, float32 on the CPU.
critiques  CPU and wall seconds for the 56 critiques that rank 8 candidates, on vLLM with random weights, float32 on the
         CPU: as `POST /score` asks for them, where critiques with the same first response share all up to the second
         one; one at a time with the same cache; and as independent calls, one at a time with an empty cache. Also which
         share of the prompts' tokens the prefix cache had. Only when it is named in `--only`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import aiohttp
from measuring import cpu_seconds
from proxy_pool import GROUP, RESPONSES, SLOTS, Ends, endpoints, ideal, stubs
from scalar_scoring import WORDS, build

from proxygrm.reward_service.judges import Asked
from proxygrm.reward_service.scalar import ScalarModel, request_of
from proxygrm.scalar.replica import PATH

CANDIDATES = 8
KEY = "benchmark"


def question(number: int) -> str:
    """With what the stubs look for."""
    return f"prompt-{number // GROUP}- call-{number}- What colour is the sign? {'Look at it closely. ' * 20}"


async def in_process(urls: list[str], calls: int) -> Ends:
    model = ScalarModel(endpoints(urls, SLOTS))
    ends = Ends()

    async def score(number: int) -> None:
        assert len((await model.score(Asked(question(number)), RESPONSES)).scores) == 2
        ends.add()

    await asyncio.gather(*(score(number) for number in range(calls)))
    await model.aclose()
    return ends


def api_process(urls: list[str], address: Any) -> None:
    from proxygrm.reward_service.api import api
    from proxygrm.serving.access.callers import THIS_MACHINE
    from proxygrm.serving.front.listen import listen, server_of

    with listen("benchmark", "127.0.0.1", 0, None, THIS_MACHINE) as here:
        server = server_of(api({"rm": ScalarModel(endpoints(urls, SLOTS))}, KEY, None, THIS_MACHINE))
        address.put(here.url)
        server.run(sockets=[here.socket])


@contextmanager
def api_of(urls: list[str]) -> Iterator[tuple[str, int]]:
    """Its address and process id."""
    context = multiprocessing.get_context("spawn")
    address = context.Queue()
    process = context.Process(target=api_process, args=(urls, address), daemon=True)
    process.start()
    try:
        yield address.get(timeout=600), process.pid or 0
    finally:
        process.terminate()
        process.join()


def used_s(process: int) -> float:
    """CPU seconds of another process."""
    import psutil

    times = psutil.Process(process).cpu_times()
    return times.user + times.system


async def over_http(url: str, bodies: Sequence[bytes], at_a_time: int) -> Ends:
    queue, headers = iter(bodies), {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        ends = Ends()

        async def work() -> None:
            for body in queue:
                async with session.post(f"{url}/score", data=body) as response:
                    assert response.status == 200, await response.text()
                    await response.read()
                ends.add()

        await asyncio.gather(*(work() for _ in range(at_a_time)))
        return ends


def rates(scale: float, rounds: int, replicas: Sequence[int]) -> None:
    print("replicas   calls   ideal 1/s   pool 1/s   ratio   HTTP 1/s   ratio   CPU ms a call")
    for servers in replicas:
        calls = servers * SLOTS * rounds
        texts = [question(number) for number in range(calls)]
        with stubs(servers, SLOTS, scale) as urls:
            bodies = [request_of(Asked(text), RESPONSES, ()).chat.body() for text in texts]
            best = asyncio.run(ideal(urls, bodies, PATH)).rate
            pool = asyncio.run(in_process(urls, calls)).rate
            with api_of(urls) as (url, process):
                bodies = [json.dumps({"question": text, "responses": RESPONSES}).encode() for text in texts]
                before = used_s(process)
                http = asyncio.run(over_http(url, bodies, servers * SLOTS * 5 // 4)).rate
                cpu_ms = 1000 * (used_s(process) - before) / calls
        print(
            f"{servers:8d} {calls:7d} {best:11.1f} {pool:10.1f} {pool / best:7.3f} {http:10.1f} {http / best:7.3f}"
            f" {cpu_ms:15.2f}",
            flush=True,
        )


def ranking(hidden: int, layers: int, questions: int, side: int) -> None:
    from PIL import Image

    from proxygrm.scalar.conversation import Item
    from proxygrm.scalar.scorer import Scorer

    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        parameters = build(Path(folder) / "model", hidden, layers)
        scorer = Scorer(Path(folder) / "model")
        together = []
        for number in range(questions):
            image = Image.new("RGB", (side, side), tuple(chance.randrange(256) for _ in range(3)))
            candidates = tuple(" ".join(chance.choices(WORDS, k=30)) for _ in range(CANDIDATES))
            together.append(Item(str(number), "Which shape is it and where?", candidates, (image,)))
        alone = [
            Item(f"{item.key}.{at}", item.question, (response,), item.images)
            for item in together
            for at, response in enumerate(item.responses)
        ]

        def seconds(requests: Sequence[Sequence[Item]]) -> tuple[float, list[float], int]:
            list(scorer.scores(requests[0]))  # warm
            before = cpu_seconds()
            scores = [score for request in requests for score in sorted(scorer.scores(request), key=lambda s: s.key)]
            used = cpu_seconds() - before
            return used, [value for score in scores for value in score.scores], sum(score.tokens for score in scores)

        ranked = seconds([[item] for item in together])
        calls = seconds([[item] for item in alone])
        batches = seconds([alone[at : at + CANDIDATES] for at in range(0, len(alone), CANDIDATES)])
    largest = max(abs(a - b) for other in (calls, batches) for a, b in zip(ranked[1], other[1], strict=True))
    print(f"{parameters / 1e6:,.1f} million parameters, {questions} questions of {CANDIDATES} candidates, {side} px")
    print("| | CPU s per question | tokens | factor |\n|---|---:|---:|---:|")
    for title, (used, _, tokens) in (
        ("together", ranked),
        ("one candidate a call", calls),
        ("the same, in one batch", batches),
    ):
        print(f"| {title} | {used / questions:.4f} | {tokens:,} | {used / ranked[0]:.2f} |")
    print(f"scores differ by at most {largest:.1e}")


def critiques(hidden: int, layers: int, questions: int, side: int, written: int) -> None:
    from PIL import Image
    from vllm import SamplingParams

    from proxygrm.critique.prompts import grm_prompt
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model
    from proxygrm.evaluate.judges.engine import open_engine
    from proxygrm.evaluate.settings import EvaluateSettings

    chance = random.Random(0)
    chats = []
    for _ in range(questions):
        image = Image.new("RGB", (side, side), tuple(chance.randrange(256) for _ in range(3)))
        candidates = [" ".join(chance.choices(WORDS, k=30)) for _ in range(CANDIDATES)]
        texts = [grm_prompt("Which shape is it?", *pair, images=0) for pair in permutations(candidates, 2)]
        parts = [[{"type": "image_pil", "image_pil": image}, {"type": "text", "text": text}] for text in texts]
        chats.append([[{"role": "user", "content": content}] for content in parts])
    params = SamplingParams(temperature=0, max_tokens=written, ignore_eos=True)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        build_tiny_model(model, [*demo_corpus(0, n=50), " ".join(WORDS)], hidden=hidden, layers=layers)
        with open_engine(model, EvaluateSettings(max_model_len=2048, device="cpu"), 1) as engine:

            def measured(at_a_time: int, keep: bool) -> tuple[float, float, float, list[str]]:
                """(CPU and wall seconds per question, share of cached tokens, the critiques)"""
                cpu, wall, cached, tokens, written_texts = 0.0, 0.0, 0, 0, list[str]()
                for calls in chats:
                    engine.llm.reset_prefix_cache()
                    for start in range(0, len(calls), at_a_time):
                        if not keep:
                            engine.llm.reset_prefix_cache()
                        before, began = cpu_seconds(), time.monotonic()
                        outputs = engine.llm.chat(calls[start : start + at_a_time], params, use_tqdm=False)
                        cpu, wall = cpu + cpu_seconds() - before, wall + time.monotonic() - began
                        cached += sum(output.num_cached_tokens or 0 for output in outputs)
                        tokens += sum(len(output.prompt_token_ids or ()) for output in outputs)
                        written_texts += [output.outputs[0].text for output in outputs]
                return cpu / questions, wall / questions, cached / tokens, written_texts

            engine.llm.chat(chats[0][:CANDIDATES], params, use_tqdm=False)  # warm
            print(f"{questions} questions of {CANDIDATES} candidates, {side} px, critiques of {written} tokens")
            print("| | CPU s per question | factor | wall s | factor | cached prompt tokens | same critiques |")
            print("|---|---:|---:|---:|---:|---:|---:|")
            ways = (
                ("together", len(chats[0]), True),
                ("one at a time, shared prefixes", 1, True),
                ("independent calls", 1, False),
            )
            first: tuple[float, float, float, list[str]] | None = None
            for title, at_a_time, keep in ways:
                cpu, wall, share, texts = found = measured(at_a_time, keep)
                first = first or found
                same = sum(one == other for one, other in zip(first[3], texts, strict=True))
                print(
                    f"| {title} | {cpu:.2f} | {cpu / first[0]:.2f} | {wall:.2f} | {wall / first[1]:.2f} | {share:.1%} "
                    f"| {same} of {len(texts)} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.25, help="of the answer times")
    parser.add_argument("--rounds", type=int, default=8, help="calls for each slot")
    parser.add_argument("--replicas", default="1,2,4")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--written", type=int, default=64, help="tokens of a critique")
    parser.add_argument("--only", default="rates,ranking")
    options = parser.parse_args()
    started = time.monotonic()
    print(f"mean answer {2 * options.scale:.2f} s, load average {os.getloadavg()[0]:.1f}")
    for name in options.only.split(","):
        print(f"\n{name}")
        if name == "rates":
            rates(options.scale, options.rounds, [int(count) for count in options.replicas.split(",")])
        elif name == "critiques":
            critiques(options.hidden, options.layers, options.questions, options.side, options.written)
        else:
            ranking(options.hidden, options.layers, options.questions, options.side)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
