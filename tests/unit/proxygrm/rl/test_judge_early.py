"""The early opinion: the proxy is called once per rollout, in time, and only with what it may see."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.core.errors import UserError
from proxygrm.critique.contract import parse
from proxygrm.rewards.accuracy import Accuracy
from proxygrm.rewards.proxy_agreement import ProxyAgreement, rubric_to_judge
from proxygrm.rl.config import RlSettings
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.early_rubric import CLOSING, Judging
from proxygrm.rl.plugins.reward_fn import EARLY, _client, compute_score, judge_early
from proxygrm.serving.endpoints import Endpoints
from support.proxy.stub import Server, stubs

GOOD = (
    "<rubric>Names the colour (100%)<justify>secret why</justify></rubric>"
    "<eval>secret evaluation </rubric></eval><answer>1</answer>"
)
LEAK = GOOD.replace("Names the colour", "Response 1 is better")
PAIR = {"id": "p", "question": "What?", "response_1": "Red.", "response_2": "Blue.", "label": 1, "images": []}
TAGS = ["<rubric>", "</rubric>", "<justify>", "</justify>", "<eval>", "</eval>", "<answer>1</answer>", "<Eval>"]


@given(st.lists(st.sampled_from([*TAGS, "A", " ", "Response 1 wins. ", "\n"]), max_size=12).map("".join))
def test_what_is_shown_of_a_rubric_is_the_same_when_it_closes_as_at_the_end(text):
    head, tag, after = text.partition(CLOSING)
    if tag:
        for beginning in (head + tag, head + tag + after[:3]):
            assert rubric_to_judge(parse(beginning)) == rubric_to_judge(parse(text))
            assert rubric_to_judge(parse(beginning), False) == rubric_to_judge(parse(text), False)
    else:
        assert rubric_to_judge(parse(text)) is None


def run(tmp_path: Path, server: Server, scene: Any, **options: Any) -> Any:
    """`scene(options path)` with `server` as the proxy."""

    async def whole() -> Any:
        async with stubs(server) as urls:
            endpoints = Endpoints(tuple(urls), api_key="key", max_tokens=64).write(tmp_path / "endpoints.json")
            written = RewardOptions(
                rollouts=str(tmp_path), stop_file="s", group_size=2, endpoints=str(endpoints), **options
            ).write(tmp_path / "options.json")
            try:
                return await scene(str(written))
            finally:
                await _client(str(endpoints)).aclose()

    return asyncio.run(whole())


def test_an_early_opinion_is_used_by_the_reward_and_the_proxy_is_called_once(tmp_path: Path) -> None:
    server = Server()

    async def scene(options: str) -> Any:
        early = await judge_early(GOOD.partition(CLOSING)[0] + CLOSING, "1", PAIR, options)
        handed_on = json.loads(json.dumps(early))  # it leaves the process
        rows = [await compute_score("d", GOOD, "1", PAIR | extra, options) for extra in ({EARLY: handed_on}, {})]
        return early, rows

    early, (with_it, without) = run(tmp_path, server, scene)
    assert early is not None
    assert {
        "sent": rubric_to_judge(parse(GOOD)),
        "opinion": 1.0,
        "why": "",
        "proxy_asked": 1.0,
    }.items() <= early.items()
    assert len(server.seen) == 2  # one for the early opinion, one for the rollout that had none
    assert server.seen[0]["body"] == server.seen[1]["body"]
    assert "secret" not in json.dumps(server.seen)
    assert (with_it["early"], without["early"]) == (1.0, 0.0)
    differs = {"early": 0.0, "proxy_latency_s": 0.0}
    assert with_it | differs == without | differs


def test_an_opinion_on_another_rubric_is_not_used(tmp_path: Path) -> None:
    server = Server(verdict="2")

    async def scene(options: str) -> Any:
        other = {"sent": "<rubric>\nother\n</rubric>", "opinion": 1.0, "why": ""}
        return await compute_score("d", GOOD, "1", PAIR | {EARLY: other}, options)

    row = run(tmp_path, server, scene)
    assert (row["proxy"], row["early"], len(server.seen)) == (-1.0, 0.0, 1)


@pytest.mark.parametrize(
    ("text", "truth", "options"),
    [
        (LEAK, "1", {}),
        (GOOD, "2", {}),  # a wrong label in the data
        (GOOD, "1", {"reward": Accuracy()}),
        ("<eval>x</eval>" + GOOD, "1", {}),
        (GOOD.replace("<justify>", "<eval>"), "1", {}),
    ],
)
def test_what_the_reward_would_not_send_is_not_sent_early(tmp_path: Path, text: str, truth: str, options: dict) -> None:
    server = Server()

    async def scene(path: str) -> Any:
        early = await judge_early(text.partition(CLOSING)[0] + CLOSING, truth, PAIR, path)
        await compute_score("d", text, truth, PAIR, path)
        return early

    assert run(tmp_path, server, scene, **options) is None
    assert server.seen == []


def test_a_proxy_without_an_answer_leaves_the_rollout_unscored_and_is_not_called_again(tmp_path: Path) -> None:
    server = Server(verdict="neither")

    async def scene(options: str) -> Any:
        early = await judge_early(GOOD, "1", PAIR, options)
        calls = len(server.seen)
        return await compute_score("d", GOOD, "1", PAIR | {EARLY: early}, options), calls

    row, calls = run(tmp_path, server, scene)
    assert (row["unscored"], row["problem"]) == (1.0, "proxy_unparsed")
    assert len(server.seen) == calls


def test_an_error_of_the_early_opinion_is_counted_like_the_reward_function_s(tmp_path: Path) -> None:
    gone = RewardOptions(rollouts="r", stop_file="s", group_size=2, endpoints=str(tmp_path / "gone.json"))
    path = str(gone.write(tmp_path / "options.json"))
    early = asyncio.run(judge_early(GOOD, "1", PAIR, path))
    row = asyncio.run(compute_score("d", GOOD, "1", PAIR | {EARLY: early}, path))
    assert (row["unscored"], row["problem"]) == (1.0, f"error_{UserError.__name__}")
    assert row["problem"] == asyncio.run(compute_score("d", GOOD, "1", PAIR, path))["problem"]
    assert asyncio.run(judge_early(GOOD, "1", {}, path)) is None


def test_the_proxy_works_while_the_rollout_continues_and_is_cancelled_with_it(tmp_path: Path) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def behave(*_: Any) -> None:
        arrived.set()
        await go_on.wait()

    server = Server(behave=behave)

    async def scene(options: str) -> Any:
        asked = itertools.count(1)

        async def ask(text: str) -> dict[str, Any] | None:
            assert next(asked) == 1
            return await judge_early(text, "1", PAIR, options)

        judging = Judging(ask)
        assert await judging.result() is None
        judging.start(GOOD)
        judging.start(GOOD)
        await asyncio.wait_for(arrived.wait(), 60)
        await judging.cancel()
        await judging.cancel()
        while server.now:
            await asyncio.sleep(0.01)
        dropped = server.cancelled
        go_on.set()
        again = Judging(lambda text: judge_early(text, "1", PAIR, options))
        again.start(GOOD)
        found = await again.result()
        await again.cancel()
        return dropped, found

    dropped, found = run(tmp_path, server, scene)
    assert dropped == 1
    assert found["opinion"] == 1.0


@pytest.mark.needs("omegaconf")
def test_the_option_names_verl_a_loop_that_exists_and_only_with_a_proxy() -> None:
    import importlib.util

    from omegaconf import OmegaConf

    from support.rl.verl_overrides import as_dict, overrides

    agent = "actor_rollout_ref.rollout.agent."
    keys = as_dict(overrides(RlSettings(reward=ProxyAgreement(early_rubric=True))))
    (loop,) = OmegaConf.load(keys[agent + "agent_loop_config_path"])
    assert loop.name == keys[agent + "default_agent_loop"]
    module, _, name = loop["_target_"].rpartition(".")
    source = Path(importlib.util.find_spec(module).origin).read_text()  # type: ignore[union-attr,arg-type]
    assert f"class {name}(" in source
    for without in (RlSettings(), RlSettings(reward=Accuracy())):
        assert not any(key.startswith(agent + "default") for key in as_dict(overrides(without)))
