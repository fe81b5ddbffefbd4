"""R1-Reward's reward in RL: a judge is asked about right answers alone; an unreadable reply is no reward."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxygrm.core.settings import with_assignments
from proxygrm.rewards.base import Answer, Post, Rating, Rollout
from proxygrm.rewards.consistency import Consistency, JudgementReward, read_reply
from proxygrm.rl.config import RlSettings
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins import reward_fn
from proxygrm.rl.plugins.step_rollouts import step_metrics
from proxygrm.serving.chat.service_client import ServiceClient
from support.proxy.stub import Server, completion, stubs
from support.refusals import refused

GOOD = "<think>Both name red.\nOnly the first is right.\nSo 1.</think><answer>1</answer>"
WRONG = GOOD.replace("<answer>1", "<answer>2")
PARTS = {"accuracy": 1.0, "format": 1.0}


def rated(reward: Consistency, text: str, *replies: Any, label: str = "1") -> tuple[Rating, list[Post]]:
    asked, left = [], list(replies)

    async def ask(sent: Post) -> Answer:
        asked.append(sent)
        reply = left.pop(0)
        return reply if isinstance(reply, Answer) else Answer(body={"choices": [{"message": {"content": reply}}]})

    return asyncio.run(reward.rate(Rollout(text, label), reward.read(text), ask)), asked


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("1", (True, "")),
        (" 0\n", (False, "")),
        ("Output: 1", (True, "")),
        ("10", (None, "judge_other_number")),
        ("-1", (None, "judge_other_number")),
        ("0.9", (None, "judge_other_number")),
        ("They agree: 1", (None, "judge_prose")),
        ("", (None, "judge_empty")),
        (" \n", (None, "judge_empty")),
        (None, (None, "judge_empty")),
        (["1"], (None, "judge_empty")),
    ],
)
def test_only_a_lone_digit_is_a_reply(reply: Any, read: tuple[bool | None, str]) -> None:
    assert read_reply(reply) == read


@pytest.mark.parametrize(
    ("inconsistent", "reply", "score", "value"),
    [(-1.0, "1", 2.0, 1.0), (-1.0, "0", 1.0, -1.0), (0.0, "1", 2.0, 1.0), (0.0, "0", 1.5, 0.0)],
)
def test_consistency_s_values_are_a_setting(inconsistent: float, reply: str, score: float, value: float) -> None:
    rating, asked = rated(Consistency(inconsistent=inconsistent), GOOD, reply)
    assert rating == Rating(score, PARTS | {"consistency": value, "judged": 1.0})
    assert len(asked) == 1


def test_a_wrong_answer_needs_no_judge() -> None:
    assert rated(Consistency(), WRONG) == (Rating(0.5, {"accuracy": 0.0, "format": 1.0}), [])
    rating, asked = rated(Consistency(), "It is 1.")
    assert (rating.score, rating.problem, asked) == (0.0, "no_answer", [])


def test_without_a_judge_the_reward_is_accuracy_and_format() -> None:
    reward = JudgementReward()
    found = [asyncio.run(reward.rate(Rollout(text, "1"), reward.read(text), never)) for text in (GOOD, WRONG, "1")]
    assert [(rating.score, rating.numbers, rating.problem) for rating in found] == [
        (1.5, PARTS, ""),
        (0.5, {"accuracy": 0.0, "format": 1.0}, ""),
        (0.0, {"accuracy": 0.0, "format": 0.0}, "no_answer"),
    ]
    assert RewardOptions("r", "s", 2, reward=reward).reward.asks == ""


async def never(sent: Any) -> Answer:
    raise AssertionError("there is nobody to ask")


def test_the_judge_sees_the_end_of_the_reasoning_and_the_answer_and_nothing_else() -> None:
    _, ((sent),) = rated(
        Consistency(model="judge-7b", max_tokens=9), "<think>a\nb\nc\nd</think><answer>1</answer>", "1"
    )
    assert sent.path == "/v1/chat/completions"
    assert {name: sent.body[name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "judge-7b",
        "max_tokens": 9,
        "temperature": 0.1,
    }
    (message,) = sent.body["messages"]
    assert "End of the reasoning: b;c;d[/think]\n\nDecision: response 1 is better\n" in message["content"]
    assert "model" not in rated(Consistency(), GOOD, "1")[1][0].body


def test_unreadable_replies_are_asked_again_and_then_unscored_never_zero() -> None:
    rating, asked = rated(Consistency(), GOOD, "well", "10", "1")
    assert (rating.score, rating.unscored, len(asked)) == (2.0, False, 3)
    rating, asked = rated(Consistency(tries=2), GOOD, "10", "it depends")
    assert (rating, len(asked)) == (Rating(0.0, PARTS, unscored=True, problem="judge_prose"), 2)
    rating, asked = rated(Consistency(), GOOD, Answer(why="judge_timeout"))
    assert (rating, len(asked)) == (Rating(0.0, PARTS, unscored=True, problem="judge_timeout"), 1)
    broken = rated(Consistency(tries=1), GOOD, Answer(body={"error": "x"}))[0]
    assert (broken.unscored, broken.problem) == (True, "judge_empty")


def test_a_real_server_is_asked_from_verl_s_reward_function_and_the_figures_follow(tmp_path: Path) -> None:
    replies = iter(["1", "0", "as I said", "10", "as ever"])

    async def behave(request: web.Request, number: int) -> web.Response:
        return completion(next(replies))

    server = Server(behave=behave)

    async def scene() -> list[dict[str, Any]]:
        async with stubs(server) as urls:
            options = RewardOptions("r", "s", 2, reward=Consistency(), services={"judge": urls}).write(
                tmp_path / "o.json"
            )
            reward_fn._options.cache_clear()
            pair = {"label": "1"}
            texts = [GOOD, GOOD, WRONG, GOOD, "no answer"]
            rows = [await reward_fn.compute_score("own", text, "1", pair, options=str(options)) for text in texts]
            await reward_fn._service("judge", tuple(urls), "").close()
            return rows

    rows = asyncio.run(scene())
    assert [(row["score"], row["consistency"], row["judged"], row["unscored"], row["problem"]) for row in rows] == [
        (2.0, 1.0, 1.0, 0.0, ""),
        (1.0, -1.0, 1.0, 0.0, ""),
        (0.5, 0.0, 0.0, 0.0, ""),
        (0.0, 0.0, 0.0, 1.0, "judge_prose"),
        (0.0, 0.0, 0.0, 0.0, "no_answer"),
    ]
    assert len({tuple(row) for row in rows}) == 1
    assert "label" not in json.dumps([seen["body"] for seen in server.seen])
    metrics = step_metrics([{**row, "group": "g"} for row in rows], 5, Consistency())
    assert {name: metrics[f"reward/{name}"] for name in ("accuracy", "format", "judged", "consistent")} == {
        "accuracy": 0.5,
        "format": 0.75,
        "judged": 0.4,
        "consistent": 0.5,
    }
    assert metrics["reward/unscored_by/judge_prose"] == 1
    assert metrics["reward/problem/no_answer"] == 1


def test_a_judge_that_is_late_or_down_is_counted_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(request: web.Request, number: int) -> web.Response:
        if number < 2:
            await asyncio.sleep(5)
        return web.Response(status=503)

    async def scene() -> list[tuple[float, str]]:
        async with stubs(Server(behave=late)) as urls:
            clients = [ServiceClient(urls, timeout_s=seconds, attempts=1) for seconds in (0.1, 60.0)]
            each = iter(clients)
            monkeypatch.setattr(reward_fn, "_service", lambda name, urls, key: next(each))
            options = RewardOptions("r", "s", 2, reward=Consistency(), services={"judge": urls}).write(
                tmp_path / "o.json"
            )
            reward_fn._options.cache_clear()
            pair = {"label": "1"}
            rows = [await reward_fn.compute_score("own", GOOD, "1", pair, options=str(options)) for _ in range(2)]
            for client in clients:
                await client.close()
            return [(row["unscored"], row["problem"]) for row in rows]

    assert asyncio.run(scene()) == [(1.0, "judge_timeout"), (1.0, "judge_http_503")]


@pytest.mark.parametrize(
    ("assignment", "values"),
    [
        ("reward.inconsistent=1", {"name": "inconsistent", "value": 1.0}),
        ("reward.inconsistent=nan", {"name": "inconsistent"}),
        ("reward.tries=0", {"name": "tries", "value": 0}),
        ("reward.temperature=-1", {"name": "temperature", "value": -1.0}),
    ],
)
def test_a_bad_option_is_refused(assignment: str, values: dict[str, Any]) -> None:
    with refused("settings.out-of-range", **values):
        with_assignments(RlSettings(), ["reward=consistency", assignment])


def test_without_its_service_it_is_refused(tmp_path: Path) -> None:
    with refused("reward.no-service", name="judge"):
        RewardOptions("r", "s", 2, reward=Consistency())
