"""Rollouts with and without an early rubric, by the real parts: vLLM, and verl's own server class, agent loop worker
and reward worker (only Ray between them is left out), with a tiny model that has learned one critique by heart."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.heavy

CRITIQUE = (
    "<rubric>\n1. Names the colour red (80%)\n2. Adds nothing else (20%)\n<justify>The colour is asked for.</justify>\n"
    "</rubric>\n<eval>\nResponses say: red 1, blue 2. The image shows red 1. </rubric> Response 1 names the colour and "
    "adds nothing else, Response 2 names another colour and adds nothing else.\n</eval>\n<answer>1</answer>"
)
QUESTION = {"question": "What colour is the square?", "response_1": "red", "response_2": "blue"}
MESSAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Write your critique."}]}]
STEPS, RATE = 60, 4e-3


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `scene` returned, from a process of its own."""
    from proxygrm.core.runtime.job_secret import vllm_sockets
    from proxygrm.rl.overrides import CPU_ENVIRONMENT

    folder = tmp_path_factory.mktemp("early")
    root = Path(__file__).parents[2]
    environment = os.environ | CPU_ENVIRONMENT | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, __file__, str(folder)]
    with vllm_sockets() as sockets:
        done = subprocess.run(
            command, env=environment | sockets, capture_output=True, text=True, timeout=900, check=False
        )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return json.loads((folder / "seen.json").read_text())


def test_the_proxy_is_asked_while_the_rollout_is_still_being_generated(seen: dict[str, Any]) -> None:
    assert seen["early"]["events"] == ["call ends", "proxy asked", "call ends", "proxy answers"]
    assert seen["one call"]["events"] == ["call ends", "proxy asked", "proxy answers"]


def test_greedy_text_and_tokens_are_those_of_one_call(seen: dict[str, Any]) -> None:
    early, whole = seen["early"], seen["one call"]
    assert whole["text"].strip() == CRITIQUE
    assert early["text"] == whole["text"]
    assert early["tokens"] == whole["tokens"]
    assert early["mask"] == whole["mask"] == [1] * len(whole["tokens"])
    assert early["log_probs"] == pytest.approx(whole["log_probs"], abs=1e-4)


def test_the_second_call_goes_on_from_the_first_s_tokens_and_finds_them_in_the_cache(seen: dict[str, Any]) -> None:
    first, second = seen["early"]["calls"]
    assert second["prompt"][: len(first["prompt"])] == first["prompt"]
    assert second["prompt"][len(first["prompt"]) :] == first["tokens"]
    assert first["tokens"] + second["tokens"] == seen["early"]["tokens"]
    assert second["cached"] >= len(first["prompt"])


def test_the_reward_is_the_same_and_the_proxy_was_asked_once_for_the_rubric_alone(seen: dict[str, Any]) -> None:
    early, whole = seen["early"], seen["one call"]
    assert early["score"] == whole["score"] == 2.0  # right, agreed with, but with a second closing tag
    differs = {"early": 0.0, "proxy_latency_s": 0.0}
    assert early["reward"] | differs == whole["reward"] | differs
    assert (early["reward"]["early"], whole["reward"]["early"]) == (1.0, 0.0)
    assert len(early["asked"]) == len(whole["asked"]) == 1
    assert early["asked"] == whole["asked"]
    assert "The image shows" not in json.dumps(early["asked"])
    assert "asked for" not in json.dumps(early["asked"])


def test_sampled_rollouts_have_a_log_probability_for_each_token(seen: dict[str, Any]) -> None:
    for row in seen["sampled"]:
        assert len(row["log_probs"]) == len(row["tokens"]) == len(row["mask"])
        assert row["reward"]["early"] == float(row["reward"]["proxy"] != 0)
    assert any(row["reward"]["early"] for row in seen["sampled"])


def test_a_rollout_that_dies_takes_the_proxy_s_work_with_it(seen: dict[str, Any]) -> None:
    assert seen["died"] == {"error": "RuntimeError: the engine is gone", "cancelled": 1, "waiting": 0}


# The process that `seen` starts.


def learned(folder: Path) -> Path:
    """A tiny model that writes CRITIQUE after any prompt that ends like ours."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    build_tiny_model(folder, [*demo_corpus(0, n=100), CRITIQUE * 50], seed=0)
    processor = AutoProcessor.from_pretrained(folder)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    prompt = processor.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    square = Image.new("RGB", (56, 56), (200, 30, 30))
    batch = processor(text=[prompt + CRITIQUE + "<|im_end|>"], images=[square], return_tensors="pt")
    start = processor(text=[prompt], images=[square], return_tensors="pt")["input_ids"].shape[1]
    labels = batch["input_ids"].clone()
    labels[:, :start] = -100
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    print(f"loss {loss.item():.4f}")
    model.save_pretrained(folder)
    return folder


def composed(folder: Path, model: Path, endpoints: Path) -> Any:
    """The trainer's whole configuration, as a job with early_rubric would compose it."""
    from dataclasses import replace

    import verl.trainer
    from hydra import compose, initialize_config_dir

    from proxygrm.rewards.proxy_agreement import ProxyAgreement
    from proxygrm.rl.config import RlSettings
    from proxygrm.rl.options import RewardOptions
    from proxygrm.rl.overrides import verl_overrides

    options = RewardOptions(rollouts=str(folder), stop_file="s", group_size=2, endpoints=str(endpoints))
    lines = verl_overrides(
        replace(RlSettings.demo(), reward=ProxyAgreement(early_rubric=True)),
        model=model,
        train_file=folder / "none.parquet",
        val_file=folder / "none.parquet",
        output=folder,
        ray_address="127.0.0.1:1",
        nnodes=1,
        gpus_per_node=1,
        reward_options=options.write(folder / "options.json"),
        run_name="early",
        device="cpu",
    )
    lines += ["actor_rollout_ref.rollout.calculate_log_probs=True"]
    with initialize_config_dir(str(Path(verl.trainer.__file__).parent / "config"), version_base=None):
        return compose("ppo_trainer", lines)


class Proxy:
    """A replica that answers "1" as soon as the rollout's last call has ended: what is asked early, waits for it."""

    def __init__(self, events: list[str]) -> None:
        self.events, self.asked, self.over = events, list[Any](), asyncio.Event()
        self.cancelled = self.waiting = 0

    async def answer(self, request: Any) -> Any:
        from aiohttp import web

        self.asked.append((await request.json())["messages"])
        self.events.append("proxy asked")
        self.waiting += 1
        try:
            await self.over.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        self.events.append("proxy answers")
        return web.json_response({"choices": [{"message": {"content": "<think>t</think><answer>1</answer>"}}]})

    async def start(self) -> str:
        from aiohttp import web

        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"


async def engine(model: Path) -> Any:
    """vLLM's asynchronous engine; forked, as the CPU platform does, so that nothing is imported again."""
    import multiprocessing

    import vllm.v1.engine.utils as engine_start
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    engine_start.get_mp_context = lambda: multiprocessing.get_context("fork")
    arguments = AsyncEngineArgs(
        model=str(model),
        dtype="float32",
        max_model_len=512,
        max_num_seqs=8,
        enforce_eager=True,
        enable_prefix_caching=True,
        block_size=32,
        distributed_executor_backend="uni",
        mm_processor_cache_gb=4,
        skip_mm_profiling=True,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
    )
    return AsyncLLM.from_engine_args(arguments)


def server_client(config: Any, running: Any, worker: Any, events: list[str], proxy: Proxy) -> Any:
    """verl's client and server, with calls where Ray would send messages; notes each call's beginning and end."""
    from verl.workers.rollout.llm_server import LLMServerClient
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer

    class Server(vLLMHttpServer):
        def __init__(self) -> None:
            self._disaggregation_role, self._pd_decode_peers = "null", []
            self._submission_paused, self._admitting = False, 0
            self.replica_rank, self.global_steps = 0, 3
            self.config, self.model_config, self.engine = worker.rollout_config, worker.model_config, running

    class Client(LLMServerClient):
        server, calls, fails = Server(), list[dict[str, Any]](), False

        async def _acquire_server(self, request_id: str, **_: Any) -> Any:
            return "server", SimpleNamespace(generate=SimpleNamespace(remote=self.remote))

        def _release_server(self, server_id: str, request_id: str | None = None) -> None:
            pass

        async def remote(self, **call: Any) -> Any:
            going_on = bool(self.calls)
            if self.fails and going_on:
                while not proxy.waiting:
                    await asyncio.sleep(0.01)
                raise RuntimeError("the engine is gone")
            prompt, stops = list(call["prompt_ids"]), "stop" in call["sampling_params"]
            output = await self.server.generate(**call)
            # A busy machine may deliver the text before the proxy's request, which was sent earlier; a minute at most.
            if going_on and not proxy.over.is_set():
                for _ in range(6000):
                    if proxy.asked:
                        break
                    await asyncio.sleep(0.01)
            cached = output.extra_fields["num_cached_tokens"]
            self.calls.append({"prompt": prompt, "tokens": output.token_ids, "cached": cached})
            events.append("call ends")
            if not stops:
                proxy.over.set()
            return output

    return Client(config)


async def scene(folder: Path) -> dict[str, Any]:
    import numpy as np
    from PIL import Image
    from verl import DataProto
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

    from proxygrm.serving.endpoints import Endpoints

    model = learned(folder / "model")
    running = await engine(model)
    events: list[str] = []
    proxy = Proxy(events)
    endpoints = Endpoints((await proxy.start(),), api_key="key", max_tokens=64).write(folder / "endpoints.json")
    config = composed(folder, model, endpoints)
    rewards = RewardLoopWorker(config)
    handle = SimpleNamespace(compute_score=SimpleNamespace(remote=rewards.compute_score))
    worker = AgentLoopWorker(config, None, reward_loop_worker_handles=[handle])  # type: ignore[arg-type,list-item]
    client = worker.llm_client = server_client(config, running, worker, events, proxy)
    image = Image.new("RGB", (56, 56), (200, 30, 30))
    image.save(folder / "red.png")
    message = {"role": "user", "content": [{"type": "image", "image": image}, MESSAGES[0]["content"][1]]}

    async def rollouts(loop: str | None, n: int = 1, validate: bool = True) -> list[dict[str, Any]]:
        """Greedy when `validate` is on. loop: None takes what the configuration says."""
        pair = {**QUESTION, "label": 1, "images": [str(folder / "red.png")], "id": "p"}
        rows: dict[str, list[Any]] = {
            "raw_prompt": [[message] for _ in range(n)],
            "extra_info": [dict(pair) for _ in range(n)],
            "reward_model": [{"ground_truth": "1"} for _ in range(n)],
            "data_source": ["proxygrm"] * n,
        }
        if loop is not None:
            rows["agent_name"] = [loop] * n
        columns = {key: np.empty(n, dtype=object) for key in rows}
        for key, values in rows.items():
            for i, value in enumerate(values):
                columns[key][i] = value
        for seen_before in (events, proxy.asked, client.calls, proxy.over):
            seen_before.clear()
        if n > 1:
            proxy.over.set()
        batch = DataProto(non_tensor_batch=columns, meta_info={"validate": validate})
        made = await worker.generate_sequences(batch)
        found = []
        for i in range(n):
            length = int(made.batch["attention_mask"][i, worker.rollout_config.prompt_length :].sum())
            tokens = made.batch["responses"][i, :length].tolist()
            found.append(
                {
                    "tokens": tokens,
                    "text": worker.tokenizer.decode(tokens, skip_special_tokens=True),
                    "mask": made.batch["response_mask"][i, :length].tolist(),
                    "log_probs": made.batch["rollout_log_probs"][i, :length].tolist(),
                    "score": made.batch["rm_scores"][i].sum().item(),
                    "reward": {key: made.non_tensor_batch[key][i] for key in made.meta_info["reward_extra_keys"]},
                    "events": list(events),
                    "asked": list(proxy.asked),
                    "calls": list(client.calls),
                }
            )
        return found

    found: dict[str, Any] = {"early": (await rollouts(None))[0]}
    found["one call"] = (await rollouts("single_turn_agent"))[0]
    found["sampled"] = await rollouts("early_rubric", n=4, validate=False)
    client.fails = True
    with pytest.raises(RuntimeError) as caught:
        await rollouts("early_rubric")
    for _ in range(6000):  # a minute at most
        if not proxy.waiting:
            break
        await asyncio.sleep(0.01)
    error = f"{type(caught.value).__name__}: {caught.value}"
    found["died"] = {"error": error, "cancelled": proxy.cancelled, "waiting": proxy.waiting}
    running.shutdown()
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1])
    result = asyncio.run(scene(where))
    (where / "seen.json").write_text(json.dumps(result, default=lambda value: value.item()))
