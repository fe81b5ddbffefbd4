from __future__ import annotations

import asyncio
import base64
import random
import subprocess
import sys
import time

import httpx
import pytest

from proxygrm.critique.contract import parse, rubric_for_proxy
from proxygrm.critique.prompts import grm_prompt
from proxygrm.critique.targets import proxy_answer
from proxygrm.demo.image_reader import read_image
from proxygrm.demo.rule_judge import Refused, build_app, judge
from proxygrm.demo.scenes import KINDS, Combination, combinations, draw
from proxygrm.demo.writer import STYLES, NotADemoPair, write_critique

RED = Combination("colour", "square", "red", "blue")


def pair(combination, rng, label=1):
    facts = (combination.right, combination.wrong) if label == 1 else (combination.wrong, combination.right)
    texts = [combination.response(fact) for fact in facts]
    return draw(combination, rng), grm_prompt(combination.question, *texts, images=0)


def request(image, prompt):
    url = "data:image/png;base64," + base64.b64encode(image).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    return {"model": "rule-judge", "messages": [{"role": "user", "content": parts}]}


@pytest.mark.parametrize("style", range(STYLES))
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_critique_is_well_formed_and_its_rubric_names_no_winner(kind, style):
    for combination in combinations(kind):
        right, wrong = combination.response(combination.right), combination.response(combination.wrong)
        critique = parse(write_critique(combination.question, wrong, right, combination.right, style))
        assert critique.problems == ()
        assert critique.verdict == 2
        assert combination.right in critique.rubric
        assert right in critique.evaluation
        assert wrong in critique.evaluation


def test_a_judge_without_errors_is_always_right_in_both_orders():
    rng = random.Random(0)
    for kind in KINDS:
        for combination in rng.sample(combinations(kind), 20):
            for label in (1, 2):
                assert parse(judge(*pair(combination, rng, label), 0.0).critique).verdict == label


def test_the_share_of_misread_pairs_is_as_configured_and_their_critiques_are_consistently_wrong():
    rng, wrong = random.Random(0), 0
    for combination in (combinations("colour") * 25)[:1000]:
        judgement = judge(*pair(combination, rng), 0.35)
        critique = parse(judgement.critique)
        assert critique.well_formed
        assert (critique.verdict == 2) == judgement.misread
        assert (combination.wrong if judgement.misread else combination.right) in rubric_for_proxy(judgement.critique)
        wrong += judgement.misread
    assert 300 < wrong < 400


def test_in_fog_the_judge_mostly_sees_the_colour_and_has_its_own_error_rate():
    rng, seen_right, misread = random.Random(0), 0, 0
    for combination in (combinations("colour") * 10)[:400]:
        prompt = pair(combination, rng)[1]
        image = draw(combination, rng, fog=True)
        assert read_image(image).fog
        seen_right += parse(judge(image, prompt, 1.0, 0.0).critique).verdict == 1
        misread += judge(image, prompt, 0.0, 0.5).misread
    assert seen_right > 320
    assert 150 < misread < 250


def test_asking_again_and_in_the_other_order_misreads_the_same_pairs():
    rng = random.Random(0)
    for combination in combinations("colour")[:100]:
        image, prompt = pair(combination, rng)
        other = pair(combination, rng, label=2)[1]
        first = judge(image, prompt, 0.5)
        assert first == judge(image, prompt, 0.5)
        assert first.misread == judge(image, other, 0.5).misread


def test_what_is_not_a_demo_pair_is_refused_with_its_reason():
    image, prompt = pair(RED, random.Random(0))
    bad = {
        "not the critique instruction": (image, "hello"),
        "not a question of the demo": (image, grm_prompt("Why?", "a", "b", images=0)),
        "not a response of the demo": (image, grm_prompt(RED.question, "a", "red", images=0)),
        "the image shows 'red'": (
            image, grm_prompt(RED.question, "blue", "green", images=0)),
        "cannot be decoded": (b"no image", prompt),
    }  # fmt: skip
    for reason, (data, text) in bad.items():
        with pytest.raises(Refused, match=reason):
            judge(data, text, 0.0)
    with pytest.raises(NotADemoPair):
        write_critique(RED.question, "The square is red.", "The square is red.", "red")


def test_the_proxy_answer_thinks_the_evaluation_and_ends_in_the_verdict():
    critique = parse(write_critique(RED.question, "red", "blue", "red"))
    assert proxy_answer(critique) == (
        "<think>The image shows red. Response 1 says red: right. Response 2 says blue: wrong.</think><answer>1</answer>"
    )


def test_a_long_evaluation_gives_its_end_as_a_short_thought_without_tags():
    text = "Intro. " + "word " * 200 + "Response 2 is vague. Response 1 <think> wins. The end"
    critique = parse(f"<rubric>r (100%)<justify>j</justify></rubric><eval>{text}</eval><answer>1</answer>")
    assert proxy_answer(critique) == "<think>Response 1  wins. The end</think><answer>1</answer>"
    endless = parse(critique_of("word " * 200))
    assert proxy_answer(endless).endswith(" ...</think><answer>1</answer>")
    assert len(proxy_answer(endless)) < 400
    with pytest.raises(ValueError, match="needs a critique"):
        proxy_answer(parse("<answer>1</answer>"))


def critique_of(evaluation: str) -> str:
    return f"<rubric>r (100%)<justify>j</justify></rubric><eval>{evaluation}</eval><answer>1</answer>"


def test_the_server_speaks_the_chat_api_and_counts_what_it_refuses():
    async def talk():
        transport = httpx.ASGITransport(app=build_app(0.0))
        async with httpx.AsyncClient(transport=transport, base_url="http://judge") as client:
            good = await client.post("/v1/chat/completions", json=request(*pair(RED, random.Random(0))))
            assert good.status_code == 200
            assert parse(good.json()["choices"][0]["message"]["content"]).verdict == 1
            for body in ({}, {"messages": "x"}, {"messages": [{"role": "user", "content": "text"}]}, []):
                refused = await client.post("/v1/chat/completions", json=body)
                assert refused.status_code == 422
                assert refused.json()["error"]["message"]
            assert (await client.post("/v1/chat/completions", content=b"{")).status_code == 400
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "rule-judge"
            health = (await client.get("/health")).json()
            assert (health["answered"], health["misread"], health["refused"]) == (1, 0, 5)

    asyncio.run(talk())


def test_it_runs_as_a_program_on_a_free_port_that_it_writes_down(tmp_path):
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "proxygrm.demo.rule_judge", "--port", "0", "--port-file", str(port_file)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 120
        while not port_file.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        url = f"http://127.0.0.1:{int(port_file.read_text())}"
        assert httpx.get(url + "/health", trust_env=False, timeout=30).json()["status"] == "ok"
        busy = subprocess.run([*command[:4], url.rsplit(":", 1)[1]], capture_output=True, text=True, timeout=120)
        assert busy.returncode == 2
        assert "cannot listen on" in busy.stderr
    finally:
        process.terminate()
        process.wait(60)
