"""Both modes of the proxy from one real server, and their agreement as users measure it."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.cli.proxy import proxy
from proxygrm.critique.prompts import proxy_prompt
from proxygrm.evaluate.agreement.cases import Case, read_cases
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient, ProxyJudgement
from proxygrm.serving.replicas.serve import Serving, serve
from proxygrm.serving.settings import MODES, Mode, ProxySettings

pytestmark = pytest.mark.heavy
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "proxy_modes.py"

SETTINGS = ProxySettings(
    mode="verdict",
    tensor_parallel_size=1,
    max_model_len=1024,
    max_num_seqs=16,
    max_tokens=16,
    call_timeout_s=600,
    start_timeout_s=900,
)
WRITES = {"\n": ["<answer"], "<answer": [">"], ">": ["1", "2"], "1": ["</"], "2": ["</"], "</": ["answer"]}
WRITES |= {"answer": ["><"], "><": ["<|im_end|>"]}
"""The tokens that may follow a token in the answers of the test's proxy: `<answer>1</answer><`, or 2."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    """A tiny model that knows only the form of a verdict: its last layer maps the last token to the next, and decides
    between 1 and 2 by the direction in which the test's prompts differ most."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("modes") / "model"
    build_tiny_model(folder, demo_corpus(0, n=200), seed=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known = tokenizer.get_vocab()
    file = folder / "model.safetensors"
    weights = load_file(file)
    embedding, head = weights["model.embed_tokens.weight"], weights["lm_head.weight"]
    embedding /= embedding.norm(dim=1, keepdim=True)
    head.zero_()
    for token, following in WRITES.items():
        for after in following:
            head[known[after]] += 6 * embedding[known["\u010a" if token == "\n" else token]]
    embedding *= 40  # so large that the layers change the last token's embedding little
    save_file(weights, file, {"format": "pt"})

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        prompts = [verdict_ids(tokenizer, row) for row in without_image(rows)]
        seen = torch.stack([model.model(input_ids=ids).last_hidden_state[0, -1] for ids in prompts])
    middle = seen.mean(dim=0)
    others = torch.linalg.qr(torch.stack([embedding[known[token]] for token in ("\u010a", "<answer", "1", "2")]).T).Q
    towards = torch.linalg.svd(seen - middle, full_matrices=False).Vh[0]
    towards -= others @ (others.T @ towards)  # what follows other tokens is unchanged
    towards /= ((seen - middle) @ towards).std()
    common = embedding[known[">"]] - others @ (others.T @ embedding[known[">"]])
    apart = towards - (middle @ towards) / (middle @ common) * common
    head[known["1"]] += apart
    head[known["2"]] -= apart
    save_file(weights, file, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def serving(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serve(checkpoint, SETTINGS, tmp_path_factory.mktemp("proxy"), device="cpu") as pool:
        yield pool


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rubrics for each of four pairs, two of them with an image."""
    folder = tmp_path_factory.mktemp("rows")
    Image.new("RGB", (56, 56), (200, 30, 30)).save(folder / "a red one.png")
    seen = []
    for number in range(16):
        colour = ("red", "blue", "green", "yellow")[number % 4]
        row = {"id": f"p{number // 4}", "question": f"What colour is shape {number // 4}?", "label": 1 + number % 2}
        row |= {"response_1": "It is red.", "response_2": "It is blue.", "images": ["a red one.png"] * (number // 8)}
        row["critique"] = (
            f"<rubric>1. Names {colour} (100%)<justify>j</justify></rubric><eval>e</eval><answer>1</answer>"
        )
        seen.append(row)
    seen.append({**seen[0], "critique": "<rubric>never closed"})
    file = folder / "rollouts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in seen))
    return file


def arguments(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    pair = {key: row[key] for key in ("question", "response_1", "response_2", "label")}
    return pair | {"rubric": rubric(row), "images": [folder / name for name in row["images"]]}


def without_image(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()[:8]]


def verdict_ids(tokenizer: Any, row: dict[str, Any]) -> Any:
    """Tokens of the instruction and the started answer, in the layout of the proxy's training."""
    text = proxy_prompt(row["question"], row["response_1"], row["response_2"], rubric(row), images=0)
    chat = [{"role": "user", "content": text}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return tokenizer(prompt + "<think></think><answer>", return_tensors="pt").input_ids


def rubric(row: dict[str, Any]) -> str:
    return f"<rubric>\n{row['critique'].split('<justify>')[0].removeprefix('<rubric>')}\n</rubric>"


def judgements(serving: Serving, file: Path, mode: Mode | None) -> list[ProxyJudgement]:
    async def scene() -> list[ProxyJudgement]:
        client = ProxyClient(serving.endpoints_file, mode=mode)
        seen = [json.loads(line) for line in file.read_text().splitlines()[:-1]]
        try:
            return await asyncio.gather(*(client.judge(**arguments(row, file.parent)) for row in seen))
        finally:
            await client.aclose()

    return asyncio.run(scene())


def test_one_server_answers_both_modes_and_the_score_is_the_models_own_probability(
    serving: Serving, checkpoint: Path, rows: Path
) -> None:
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    reasoned, soft = (
        judgements(serving, rows, "critique"),
        judgements(serving, rows, None),
    )  # None: as in the endpoints file
    assert [j.cause for j in (*reasoned, *soft)] == [None] * 32
    assert {j.soft for j in reasoned} == {None}
    assert all(j.text == f"<answer>{j.verdict}</answer><" for j in reasoned)
    assert all(j.text == str(j.verdict) and j.verdict == (1 if j.soft > 0.5 else 2) for j in soft)
    assert {j.verdict for j in soft} == {1, 2}

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint)
    digits = [tokenizer.convert_tokens_to_ids(digit) for digit in "12"]
    for row, judgement in zip(without_image(rows), soft, strict=False):
        ids = verdict_ids(tokenizer, row)
        with torch.no_grad():
            expected = torch.softmax(model(input_ids=ids).logits[0, -1, digits], dim=0)[0].item()
        assert judgement.soft == pytest.approx(expected, abs=2e-3)


def test_the_agreement_of_two_modes_is_measured_once_and_then_read_from_the_file(serving: Serving, rows: Path) -> None:
    out = rows.with_name("opinions.jsonl")
    command = ["agreement", rows, "--a", serving.endpoints_file, "--out", out, "--json"]
    first, second = (CliRunner().invoke(proxy, list(map(str, command)), catch_exceptions=False) for _ in range(2))
    figures = json.loads(first.stdout)
    assert json.loads(second.stdout) == figures
    assert second.stderr == ""  # nothing was requested
    assert (figures["rows"], figures["pairs"], figures["both"], figures["left_out"]) == (
        16,
        4,
        16,
        {"nothing_to_judge": 1},
    )
    by_mode = [judgements(serving, rows, mode) for mode in MODES]
    same = sum(a.verdict == b.verdict for a, b in zip(*by_mode, strict=True))
    assert figures["same"]["share"] == same / 16
    assert [figures[side]["right"]["share"] for side in "ab"] == [
        sum(bool(j.agrees) for j in js) / 16 for js in by_mode
    ]
    assert 0 < figures["b"]["brier"] < 1


def test_the_cost_of_a_verdict_without_reasons_is_measured(
    serving: Serving, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = runpy.run_path(str(BENCHMARK))
    first = read_cases([rows], None, 16).cases[0]
    parts: list[list[Case]] = [[], [], [], []]  # by pair, as the benchmark splits them: four of each
    for number in range(200):
        case = replace(first, question=f"What colour is shape {number}?")
        parts[int(case.pair, 16) % 4].append(case)
    cases = [case for part in parts for case in part[:4]]
    sums = benchmark["measure"](Endpoints.read(serving.endpoints_file), cases, warm_up=0)
    assert [sums[mode]["judgements"] for mode in MODES] == [8, 8]
    assert [sums[mode]["without verdict"] for mode in MODES] == [0, 0]
    written = {mode: sums[mode]["tokens written"] / 8 for mode in MODES}
    assert written["critique"] > written["verdict"] == 1
    benchmark["show"](sums)
    assert "tokens written" in capsys.readouterr().out
