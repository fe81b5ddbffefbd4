"""`proxygrm serve-reward` with a real engine: one tiny model with the marker of a step judge, which also writes."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from proxygrm.core.checkpoints.kinds import mark_process
from proxygrm.critique.prompts import grm_prompt
from proxygrm.critique.prompts.process import audit_prompt, describe_prompt, step_prompt
from support.proxy.reward_calls import serve_reward

pytest.importorskip("vllm")

pytestmark = pytest.mark.heavy

QUESTION, RESPONSES = "Which colour is the sign?", ["It is red.", "It is blue.", "red"]
STEPS = ["The sign has one colour.", "So the answer is red."]
WRITES = {"<answer": ">", ">": "2", "2": "</", "</": "answer", "answer": "><", "><": "<|im_end|>", "1": "<|im_end|>"}
"""What follows a token: its critique is `<answer>2</answer><`, and its answer about a step 1."""


def critique_prompts() -> list[str]:
    return [grm_prompt(QUESTION, one, two, images=0) for one in RESPONSES for two in RESPONSES if one != two]


def step_prompts() -> list[str]:
    seen = ["1", "2", "<answer>2</answer><"]
    return [step_prompt(QUESTION, text, STEPS[: count + 1]) for text in seen for count in range(len(STEPS))]


def make_model(folder: Path) -> Path:
    """It tells instructions apart by the direction in which their last hidden states differ most."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    texts = [describe_prompt("Q"), audit_prompt("D", "C"), *step_prompts()]
    build_tiny_model(folder, [*demo_corpus(0, n=100), *texts * 5], seed=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known = tokenizer.get_vocab()
    file = folder / "model.safetensors"
    weights = load_file(file)
    embedding, head = weights["model.embed_tokens.weight"], weights["lm_head.weight"]
    embedding /= embedding.norm(dim=1, keepdim=True)
    head.zero_()
    for token, after in WRITES.items():
        head[known[after]] += 6 * embedding[known[token]]
    embedding *= 40  # so large that the layers change the last token's embedding little
    save_file(weights, file, {"format": "pt"})

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)

    def last(prompts: list[str]) -> torch.Tensor:
        """Hidden states before the first token of the answers."""
        states = []
        for prompt in prompts:
            chat = [{"role": "user", "content": prompt}]
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            ids = tokenizer(text, return_tensors="pt").input_ids
            states.append(model.model(input_ids=ids).last_hidden_state[0, -1])
        return torch.stack(states)

    with torch.no_grad():
        critiques, steps = last(critique_prompts()), last(step_prompts())
    start = embedding[known["\u010a"]]
    others = torch.linalg.qr(torch.stack([embedding[known[token]] for token in WRITES]).T).Q

    def apart_from_others(vector: torch.Tensor) -> torch.Tensor:
        return vector - others @ (others.T @ vector)

    difference, middle = steps.mean(0) - critiques.mean(0), (steps.mean(0) + critiques.mean(0)) / 2
    common, towards = apart_from_others(start), apart_from_others(difference)
    common /= middle @ common
    towards /= difference @ towards
    towards -= (middle @ towards) * common  # 0 in the middle
    head[known["1"]] += 30 * common + 20 * towards
    head[known["<answer"]] += 30 * common - 20 * towards
    save_file(weights, file, {"format": "pt"})
    with torch.no_grad():
        assert (critiques @ towards).max() < 0 < (steps @ towards).min(), "it cannot tell them apart"
    return folder


def test_one_engine_ranks_compares_and_judges_steps_and_what_it_cannot_read_has_no_score(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    mark_process(model, {})
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (56, 56), "red").save(images / "red.png")
    asked: dict[str, Any] = {"question": QUESTION, "model": "grm"}
    pair = asked | {"response_1": RESPONSES[0], "response_2": RESPONSES[1]}

    async def post(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        reply = await http.post(path, json=body)
        return reply.status_code, reply.json()

    async def critiques(http: httpx.AsyncClient) -> None:
        assert await post(http, "/score", asked | {"responses": RESPONSES}) == (
            200,
            {"scores": [0.5] * 3, "how": "share-of-wins"},  # it prefers a place
        )
        status, both = await post(http, "/compare", pair)
        assert (status, both["verdict"], both["reason"]) == (200, None, "orders_disagree")
        assert [(c["order"], c["verdict"], c["text"]) for c in both["critiques"]] == [
            ("as-given", 2, "<answer>2</answer><"),
            ("swapped", 1, "<answer>2</answer><"),
        ]
        status, shown = await post(http, "/compare", pair | {"orders": "as-given", "images": "red.png"})
        assert (status, shown["verdict"]) == (200, 2), shown
        # it takes this for a step, and answers 1
        odd = pair | {"question": step_prompts()[0] * 4, "orders": "as-given"}
        status, unread = await post(http, "/compare", odd)
        assert (status, unread["error"]["cause"], unread.keys()) == (503, "unparsed", {"error"})
        status, refused = await post(http, "/steps", asked | {"steps": [{"steptext": STEPS[0]}]})
        assert (status, refused["error"]["cause"]) == (422, "bad_request")

    async def judged_steps(http: httpx.AsyncClient) -> None:
        steps = asked | {"model": "prm", "steps": [{"steptext": text} for text in STEPS]}
        right = {"raw": [1.0, 1.0], "final": [1.0, 1.0], "reliability": None}
        assert await post(http, "/steps", steps) == (200, right)
        visual = steps | {"steps": [{"steptext": STEPS[0], "visualdependency": "a red sign"}]}
        status, unread = await post(http, "/steps", visual)  # its audit is 1, which is no p_score
        assert (status, unread["error"]["cause"], unread.keys()) == (503, "unparsed", {"error"})
        assert "process_audit" in unread["error"]["detail"]
        solution = json.dumps({"reasoningprocess": steps["steps"], "finalanswer": "red"})
        scored = asked | {"model": "prm", "responses": [solution]}
        assert await post(http, "/score", scored) == (200, {"scores": [1.0], "how": "process-mean"})

    async def scene(url: str) -> None:
        key = (tmp_path / "service" / "reward.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=600) as http:
            served = (await http.get("/models")).json()["models"]
            assert {model["name"]: model["kind"] for model in served} == {"prm": "process", "grm": "generative"}
            await critiques(http)
            await judged_steps(http)

    models = (f"grm={model}", "--kind", "grm=generative", "--images", images)
    options = (*models, "--max-model-len", 1024, "--max-tokens", 16, "--max-num-seqs", 16)
    with serve_reward(f"prm={model}", tmp_path / "service", *options) as (process, url):
        assert len([*tmp_path.glob("service/*/*.log")]) == 1, "one engine for both"
        asyncio.run(scene(url))
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
