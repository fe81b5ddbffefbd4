"""The mode `verdict`: the request, and how one token's probabilities become a verdict, a score or a cause."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from math import inf, log, nan

import pytest
from aiohttp import web

from proxygrm.core.errors import UserError
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.answer import AttemptFailed, read_answer
from proxygrm.serving.pool.routing import Cause
from proxygrm.serving.pool.verdict import read_verdict
from proxygrm.serving.settings import ProxySettings
from support.proxy.stub import Server, running
from support.refusals import refused

pytestmark = pytest.mark.slow

PAIR = {"question": "What colour?", "response_1": "Red.", "response_2": "Blue."}
RUBRIC = "<rubric>\nNames the colour (100%)\n</rubric>"
READING_FAILED = (ValueError, TypeError, LookupError, ArithmeticError)


def choice(written, *top):
    """As vLLM answers: `top` are (token, probability or None, or a raw logprob as text), the written token first."""
    entries = [{"token": token, "logprob": log(p) if isinstance(p, float) and p > 0 else p} for token, p in top]
    first = {**(entries[0] if entries else {"token": written, "logprob": -0.1}), "top_logprobs": entries}
    return {"message": {"content": written}, "logprobs": {"content": [first]}, "finish_reason": "length"}


def body(*tokens):
    return json.dumps({"choices": [choice(*tokens)]}).encode()


@pytest.mark.parametrize(
    ("written", "top", "verdict", "soft"),
    [
        ("1", [("1", 0.6), ("2", 0.2), ("</", 0.2)], 1, 0.75),
        ("2", [("2", 0.9), ("1", 0.1)], 2, 0.1),
        ("2", [("2", 0.4), ("1", 0.4), ("x", 0.2)], 2, 0.5),  # a tie: what was written
        ("1", [("1", 0.4), ("2", 0.4)], 1, 0.5),
        ("1", [("1", 0.9), ("one", 0.05)], 1, 1.0),  # the other is not among the most probable
        ("1", [("1", 0.7), ("2", -inf)], 1, 1.0),
        ("1", [("1", 0.7), ("2", -9999.0)], 1, 1.0),  # vLLM writes -inf so
        (" 1", [(" 1", 0.5), ("1", 0.25), ("2", 0.25)], 1, 0.75),
        ("2", [("2", 0.4), ("1", 0.3), (" 1", 0.3)], 1, 0.6),  # spellings of 1 together are likelier
        ("1", [("1", 0.5), ("1", 0.5), ("2", 0.5)], 1, 0.5),  # one token listed twice is one token
        ("1\n", [("1\n", 0.5), ("2", 0.5), ("12", 0.2), ("１", 0.4), ("1.", 0.3)], 1, 0.5),
        ("1", [("1", 1.0), ("2", 1e-300)], 1, 1.0),
    ],
)
def test_the_probabilities_of_the_two_digits_are_renormalized(written, top, verdict, soft):
    result = read_verdict(choice(written, *top))
    assert result is not None
    assert result[0] == verdict
    assert result[1] == pytest.approx(soft)


@pytest.mark.parametrize("written", ["<think", "", "12", "1.", "10", "１", "one", "\ud800", "</answer>"])
def test_another_token_that_is_likelier_than_both_leaves_no_verdict(written):
    assert read_verdict(choice(written, (written, 0.5), ("1", 0.3), ("2", 0.2))) is None


@pytest.mark.parametrize(
    "broken",
    [
        choice("1", ("1", nan), ("2", 0.5)),
        choice("1", ("1", 0.5), ("x", nan)),
        choice("1", ("1", 2.5), ("2", 0.5)),  # more than certain
        choice("1", ("1", inf), ("2", 0.5)),
        choice("1", ("1", 10**400), ("2", 0.5)),
        choice("1", ("1", "nan"), ("2", 0.5)),
        choice("1", ("1", None), ("2", 0.5)),
        choice("1", ("1", 0.9)),  # a server that reports no other tokens
        choice("1"),
        choice("1", ("1", -inf), ("2", -inf)),
        choice("1", ("token_id:16", 0.9), ("token_id:17", 0.1)),
        {"message": {"content": "1"}},
        {"message": {"content": "1"}, "logprobs": None},
        {"message": {"content": "1"}, "logprobs": {"content": []}},
        {"message": {"content": "1"}, "logprobs": {"content": [{"token": "1", "logprob": -0.1}]}},
        {"message": {"content": "1"}, "logprobs": {"content": ["1"]}},
    ],
)
def test_invalid_probabilities_are_garbage_and_not_a_verdict(broken):
    with pytest.raises(READING_FAILED):
        read_verdict(broken)
    with pytest.raises(AttemptFailed, match="garbage"):
        read_answer(json.dumps({"choices": [broken]}).encode(), "verdict")


def test_an_answer_has_the_verdict_score_and_cause_of_its_mode():
    sure = read_answer(body("2", ("2", 0.75), ("1", 0.25)), "verdict")
    assert (sure.verdict, sure.soft, sure.cause, sure.text) == (2, pytest.approx(0.25), None, "2")
    mute = read_answer(body("<think", ("<think", 0.9), ("1", 0.1)), "verdict")
    assert (mute.verdict, mute.soft, mute.cause, mute.text) == (None, None, Cause.UNPARSED, "<think")
    reasoned = json.dumps({"choices": [{"message": {"content": "<answer>1</answer>"}}]}).encode()
    assert read_answer(reasoned).verdict == 1
    assert read_answer(reasoned).soft is None
    cut = read_answer(body("<think>so long", ("<think", 0.9)), "critique")
    assert (cut.verdict, cut.cause) == (None, Cause.CUT_OFF)


def judged(*tokens, mode="verdict", calls=1, **endpoints):
    async def behave(request, number):
        return web.json_response({"choices": [choice(*tokens)]})

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"mode": mode, **endpoints}, timeout_s=60.0) as (proxy, _):
            judgements = await asyncio.gather(*(proxy.judge(**PAIR, rubric=RUBRIC, label=1) for _ in range(calls)))
            return judgements[0], [seen["body"] for seen in server.seen], proxy.snapshot()

    return asyncio.run(scene())


def test_one_token_is_requested_after_the_started_answer_and_the_rubric_is_still_last():
    judgement, (request, *_), counted = judged("1", ("1", 0.8), ("2", 0.2))
    user, start = request["messages"]
    assert user["content"][-1]["text"].endswith(RUBRIC)
    assert (start["role"], start["content"]) == ("assistant", "<think></think><answer>")
    assert (request["max_tokens"], request["temperature"]) == (1, 0)
    assert (request["logprobs"], request["top_logprobs"]) == (True, 20)
    assert (request["continue_final_message"], request["add_generation_prompt"]) == (True, False)
    assert (judgement.verdict, judgement.agrees, judgement.soft, judgement.cause) == (1, True, pytest.approx(0.8), None)
    assert (counted["scored"], counted["agreed"]) == (1, 1)


def test_a_judgement_without_verdict_in_verdict_mode_is_asked_once_and_counted_as_unparsed():
    judgement, requests, counted = judged("Response", ("Response", 0.5), ("1", 0.5))
    assert (judgement.verdict, judgement.soft, judgement.agrees, judgement.cause) == (None, None, None, Cause.UNPARSED)
    assert len(requests) == 1
    assert counted["unscored"] == {"unparsed": 1}


def test_a_server_that_gives_no_probabilities_scores_nothing_even_if_it_writes_a_digit():
    judgement, _, counted = judged("1")
    assert (judgement.verdict, judgement.cause) == (None, Cause.GARBAGE)
    assert counted["unscored"] == {"garbage": 1}


def test_the_endpoints_file_has_the_mode_and_older_files_mean_critique(tmp_path):
    path = Endpoints(("http://127.0.0.1:1",), "key", mode="verdict").write(tmp_path / "endpoints.json")
    assert Endpoints.read(path).mode == "verdict"
    old = json.loads(path.read_text())
    del old["mode"]
    path.write_text(json.dumps(old))
    assert Endpoints.read(path).mode == "critique"
    path.write_text(json.dumps({**old, "mode": "guess"}))
    with refused("proxy.unknown-mode", path=path, mode="guess"):
        Endpoints.read(path)


def test_an_unknown_mode_is_refused_where_it_is_set():
    from jobs.recipes.proxy_grm import demo
    from proxygrm.core.settings import with_assignments

    assert with_assignments(demo(), ["grm_rl.proxy.mode=verdict"]).grm_rl.proxy.mode == "verdict"
    with pytest.raises(UserError, match=r"grm_rl\.proxy\.mode"):
        with_assignments(demo(), ["grm_rl.proxy.mode=soft"])
    with refused("settings.unknown-value", name="mode", value="soft"):
        replace(ProxySettings(), mode="soft")


def test_the_front_end_returns_the_score_and_upstreams_api_is_unchanged():
    import httpx

    from proxygrm.serving.front.app import front

    async def behave(request, number):
        return web.json_response({"choices": [choice("2", ("2", 0.75), ("1", 0.25))]})

    async def scene():
        async with running(Server(behave=behave), endpoints={"mode": "verdict"}) as (proxy, _):
            transport = httpx.ASGITransport(app=front(proxy, "key"))
            headers = {"Authorization": "Bearer key"}
            async with httpx.AsyncClient(transport=transport, base_url="http://front", headers=headers) as http:
                score = await http.post("/score", json={**PAIR, "rubric": RUBRIC, "label": 2})
                body = {"question": "What?", "chosen": "a", "rejected": "b", "answer": 2, "rubric": RUBRIC}
                return score.json(), (await http.post("/get_reward_mllm", json=body)).json()

    scored, rewarded = asyncio.run(scene())
    assert (scored["verdict"], scored["agrees"], scored["soft"], scored["cause"]) == (2, True, 0.25, None)
    assert rewarded == {"reward": 1.0}


def test_a_rollouts_row_carries_the_score_beside_the_same_reward(tmp_path):
    from proxygrm.rl.options import RewardOptions
    from proxygrm.rl.plugins.reward_fn import _client, compute_score

    critique = f"{RUBRIC[:-9]}<justify>It asks.</justify></rubric><eval>e</eval><answer>1</answer>"

    async def behave(request, number):
        return web.json_response({"choices": [choice("1", ("1", 0.75), ("2", 0.25))]})

    async def scene():
        async with running(Server(behave=behave)) as (proxy, _):
            file = replace(proxy.endpoints, mode="verdict").write(tmp_path / "endpoints.json")
            options = RewardOptions("r", "stop", 2, endpoints=str(file)).write(tmp_path / "o.json")
            row = await compute_score("demo", critique, "1", {**PAIR, "label": 1, "images": []}, options=str(options))
            await _client(str(file)).aclose()
            return row

    row = asyncio.run(scene())
    assert (row["proxy_soft"], row["proxy"], row["score"]) == (pytest.approx(0.75), 1.0, 2.5)
