"""What the proxy adds to a step's rollout phase: asked at the end of each rollout, or as soon as its rubric is closed.

    python benchmarks/early_rubric.py [--scale 0.25] [--replicas 1,2,4]

The share of one of eight agent loop workers in a step of 256 prompts x 8 rollouts: 256 rollouts that start at once,
with an eighth of the proxy's slots (64 a replica). verl's own agent loops, our reward function and our proxy client
work as in a job; the two servers are stubs:

policy    four replicas: 25 ms a token for every rollout (they decode some hundred sequences each), 0.5 s before a
          rollout's first token, and 0.2 s again before a second call goes on: its prefix is cached, but it is a request
          of its own. Critiques have 800 tokens on average, log-normal with a sigma of 0.35, and 40 % of each is its
          rubric. Before that a replica prepares the image, one request at a time: 100 ms for one of 1 megapixel
          (as measured with transformers on this project's machine), 5 ms for one that its cache holds. early_rubric
          turns that cache on; the last row shows both without it, as upstream's settings have it.
proxy     `proxy_pool.py`'s: 2 s on average, log-normal with a sigma of 0.3.

All times are multiplied by `scale`; our own work is not, and so weighs 1/scale times as much as in truth. Lengths and
times are drawn from a rollout's number: every row meets the same ones. The phase ends when the last rollout has its
reward. The aim: with an early rubric at most 1.05 of the phase without any proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy_pool import GROUP, RESPONSES, SLOTS, answer_s, stubs

from proxygrm.rewards.accuracy import Accuracy
from proxygrm.rewards.proxy_agreement import ProxyAgreement
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.reward_fn import _client, compute_score
from proxygrm.serving.endpoints import Endpoints

WORKERS, ROLLOUTS = 8, 256
TOKEN_S, FIRST_S, AGAIN_S = 0.025, 0.5, 0.2
POLICIES, PREPARE_S, CACHED_S = 4, 0.1, 0.005
TOKENS, SIGMA, RUBRIC = 800, 0.35, 0.4
RESPONSE_LENGTH = 8192


@dataclass(frozen=True)
class Critique:
    """One rollout as the policy will write it. closed: tokens up to and with `</rubric>`."""

    number: int
    ids: tuple[int, ...]
    closed: int
    text: str

    @property
    def pair(self) -> dict[str, Any]:
        question = f"prompt-{self.number // GROUP}- What colour is the sign?"
        return {
            "id": str(self.number),
            "question": question,
            "response_1": RESPONSES[0],
            "response_2": RESPONSES[1],
            "label": 1,
            "images": [],
        }


def critique(number: int, tokenizer: Any, word: float) -> Critique:
    """`word`: tokens of one filling word."""
    length = TOKENS * math.exp(random.Random(-1 - number).gauss(0, SIGMA) - SIGMA**2 / 2)
    rubric, rest = (max(1, round(share * length / word)) for share in (RUBRIC, 1 - RUBRIC))
    head = f"<rubric>\ncall-{number}- Names the colour (100%)\n<justify>{' colour' * rubric}</justify>\n</rubric>"
    tail = f"\n<eval>{' colour' * rest}</eval>\n<answer>1</answer>"
    begun, whole = tokenizer(head)["input_ids"], tokenizer(head + tail)["input_ids"]
    closed = next(i for i in range(len(begun) - 2, len(whole)) if "</rubric>" in tokenizer.decode(whole[:i]))
    return Critique(number, (*whole, tokenizer.eos_token_id), closed, head + tail)


class Front:
    """Where images are prepared, one at a time: this worker's share of the policy's replicas."""

    def __init__(self, scale: float, cache: bool) -> None:
        self.scale, self.cache, self.known = scale * WORKERS / POLICIES, cache, set[int]()
        self.free_at = 0.0

    async def prepare(self, image: int) -> None:
        known = self.cache and image in self.known
        self.known.add(image)
        now = time.monotonic()
        self.free_at = max(now, self.free_at) + self.scale * (CACHED_S if known else PREPARE_S)
        await asyncio.sleep(self.free_at - now)


class Policy:
    """verl's server client for one rollout."""

    def __init__(self, critique: Critique, front: Front, scale: float) -> None:
        self.critique, self.front, self.scale, self.begun = critique, front, scale, 0

    async def generate(self, *, sampling_params: dict[str, Any], **_: Any) -> Any:
        from verl.workers.rollout.replica import TokenOutput

        begun = self.begun
        await self.front.prepare(self.critique.number // GROUP)
        stop = self.critique.closed if sampling_params.get("stop") else len(self.critique.ids)
        wait = (AGAIN_S if begun else FIRST_S) + TOKEN_S * (stop - begun)
        await asyncio.sleep(self.scale * wait)
        self.begun = stop
        return TokenOutput(token_ids=list(self.critique.ids[begun:stop]), stop_reason="completed")


class Worker:
    """What verl's agent loop worker does with a rollout, as far as it takes time here."""

    def __init__(self, tokenizer: Any, options: Path, scale: float, cache: bool) -> None:
        from omegaconf import OmegaConf

        rollout = {"prompt_length": 4096, "response_length": RESPONSE_LENGTH, "max_model_len": None}
        kwargs = {"reward_kwargs": {"options": str(options)}}
        self.config = OmegaConf.create(
            {"actor_rollout_ref": {"rollout": rollout}, "reward": {"custom_reward_function": kwargs}, "data": {}}
        )
        self.tokenizer, self.options, self.scale = tokenizer, str(options), scale
        self.front = Front(scale, cache)

    async def rollout(self, loop: type, critique: Critique) -> dict[str, Any]:
        """Its reward's row."""
        from verl.experimental.agent_loop.agent_loop import DictConfigWrap

        agent = loop(
            trainer_config=DictConfigWrap(self.config),
            server_manager=Policy(critique, self.front, self.scale),
            tokenizer=self.tokenizer,
            processor=None,
            hf_model_type="qwen2",
            dataset_cls=object,
            data_config=DictConfigWrap(self.config.data),
        )
        pair = critique.pair
        output = await agent.run(
            {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "logprobs": False},
            raw_prompt=[{"role": "user", "content": pair["question"]}],
            extra_info=pair,
            reward_model={"ground_truth": "1"},
        )
        text = self.tokenizer.decode(output.response_ids, skip_special_tokens=True)
        assert text == critique.text
        return await compute_score("benchmark", text, "1", pair | output.extra_fields, self.options)


async def phase(worker: Worker, loop: type, critiques: Iterable[Critique]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds until the last rollout has its reward, and the rewards' rows."""
    started = time.monotonic()
    rows = await asyncio.gather(*(worker.rollout(loop, critique) for critique in critiques))
    return time.monotonic() - started, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.25, help="of all times")
    parser.add_argument("--replicas", default="1,2,4", help="of the whole job's proxy")
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS, help="of this worker")
    asked = parser.parse_args()

    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import train_tokenizer
    from proxygrm.rl.plugins.early_rubric_loop import EarlyRubricAgentLoop

    tokenizer = train_tokenizer(demo_corpus(0, n=100), 1500)
    word = len(tokenizer(" colour" * 10)["input_ids"]) / 10
    critiques = [critique(number, tokenizer, word) for number in range(asked.rollouts)]
    lengths = sorted(len(one.ids) for one in critiques)
    print(
        f"{asked.rollouts} rollouts of {sum(lengths) / asked.rollouts:.0f} tokens on average, "
        f"the longest {lengths[-1]}; scale {asked.scale}, load average {os.getloadavg()[0]:.1f}"
    )

    with tempfile.TemporaryDirectory() as folder:

        async def measured(loop: type, endpoints: Path | None, cache: bool) -> tuple[float, list[dict[str, Any]]]:
            options = RewardOptions(
                rollouts=folder,
                stop_file="s",
                group_size=GROUP,
                reward=Accuracy() if endpoints is None else ProxyAgreement(),
                endpoints=str(endpoints),
            ).write(Path(folder) / f"options-{endpoints.stem if endpoints else 'none'}.json")
            try:
                return await phase(Worker(tokenizer, options, asked.scale, cache), loop, critiques)
            finally:
                if endpoints is not None:
                    await _client(str(endpoints)).aclose()

        asyncio.run(measured(SingleTurnAgentLoop, None, True))  # everything imported and warm
        work = sum(answer_s(number) for number in range(asked.rollouts))
        alone = {cache: asyncio.run(measured(SingleTurnAgentLoop, None, cache))[0] for cache in (True, False)}
        print("cache   replicas   their work s   no proxy s   at the end s   ratio   early rubric s   ratio   in time")
        rows = [(True, int(replicas)) for replicas in asked.replicas.split(",")]
        for cache, replicas in [*rows, (False, rows[-1][1])]:
            slots, found = SLOTS * replicas // WORKERS, []
            with stubs(1, slots, asked.scale) as urls:
                for loop in (SingleTurnAgentLoop, EarlyRubricAgentLoop):
                    name = Path(folder) / f"{loop.__name__}-{replicas}-{cache}.json"
                    endpoints = Endpoints(tuple(urls), "key", max_num_seqs=slots).write(name)
                    found.append(asyncio.run(measured(loop, endpoints, cache)))
            assert not [row for _, rewards in found for row in rewards if row["unscored"]]
            (late, _), (early, rewards) = found
            in_time, base = sum(row["early"] for row in rewards) / asked.rollouts, alone[cache]
            print(
                f"{'on' if cache else 'off':5s} {replicas:10d} {work / slots:14.1f} {base / asked.scale:12.1f}"
                f" {late / asked.scale:14.1f} {late / base:7.3f} {early / asked.scale:16.1f} {early / base:7.3f}"
                f" {in_time:9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
