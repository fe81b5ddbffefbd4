"""A reward that asks a service of the job other than the proxy: one file and one line of the registry, as here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from proxygrm.rewards import REWARDS
from proxygrm.rewards.base import Ask, Post, Rating, Reward, Rollout
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins import reward_fn
from proxygrm.rl.plugins.step_rollouts import step_metrics
from support.proxy.stub import Server, completion, stubs
from support.refusals import refused


@dataclass(frozen=True)
class Consistent(Reward):
    """As R1-Reward's: a point for the right answer, half of one more where a judge finds that it follows."""

    kind: str = field(default="consistent", init=False)
    tries: int = 3
    asks: ClassVar[str] = "judge"
    columns: ClassVar[tuple[str, ...]] = ("consistency",)

    def read(self, text: str) -> tuple[str, str]:
        reasons, _, answer = text.partition("<answer>")
        return reasons, answer.partition("</answer>")[0]

    def to_judge(self, parsed: tuple[str, str]) -> Post:
        content = [{"type": "text", "text": f"{parsed[0]} => {parsed[1]}"}]
        return Post("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": content}]})

    async def rate(self, rollout: Rollout, parsed: tuple[str, str], ask: Ask) -> Rating:
        if parsed[1] != rollout.label:
            return Rating(0.0)  # the judge's weight is zero
        for _ in range(self.tries):
            answer = await ask(self.to_judge(parsed))
            if answer.why:
                return Rating(0.0, unscored=True, problem=answer.why)
            if (said := answer.body["choices"][0]["message"]["content"].strip()) in ("0", "1"):
                consistency = 1.0 if said == "1" else -1.0
                return Rating(1 + 0.5 * consistency, {"consistency": consistency})
        return Rating(1.0, problem="judge_unreadable")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "consistent", Consistent)  # type: ignore[arg-type]


def scored(folder: Path, servers: list[Server], texts: list[str]) -> list[dict[str, Any]]:
    key = folder / "judge.key"
    key.write_text("secret")
    key.chmod(0o600)

    async def scene() -> list[dict[str, Any]]:
        async with stubs(*servers) as urls:
            options = RewardOptions(
                "r", "s", 2, reward=Consistent(), services={"judge": urls}, service_keys={"judge": str(key)}
            ).write(folder / "options.json")
            reward_fn._options.cache_clear()
            rows = [await reward_fn.compute_score("own", text, "1", {}, options=str(options)) for text in texts]
            await reward_fn._service("judge", tuple(urls), "secret").close()
            return rows

    return asyncio.run(scene())


def saying(*answers: str) -> Server:
    left = list(answers)

    async def behave(request: web.Request, number: int) -> web.Response:
        return completion(left.pop(0))

    return Server(behave=behave)


RIGHT, WRONG = "red it is <answer>1</answer>", "red it is <answer>2</answer>"


def test_the_judge_is_asked_as_the_reward_says_and_its_answers_are_columns_and_figures(tmp_path: Path) -> None:
    server = saying("1", "well", "0")
    rows = scored(tmp_path, [server], [RIGHT, RIGHT, WRONG])
    assert [(row["score"], row["consistency"], row["unscored"]) for row in rows] == [
        (1.5, 1.0, 0.0),
        (0.5, -1.0, 0.0),
        (0.0, 0.0, 0.0),
    ]
    assert len({tuple(row) for row in rows}) == 1
    assert "proxy_asked" not in rows[0]
    assert len(server.seen) == 3, "the wrong answer is not judged, the unreadable one again"
    assert server.seen[0]["headers"]["Authorization"] == "Bearer secret"
    assert json.dumps(server.seen[0]["body"]).count("red it is  => 1") == 1
    metrics = step_metrics([{**row, "group": "g", "numbers": {}} for row in rows], 3, Consistent())
    assert (metrics["reward/consistency"], metrics["reward/score_mean"]) == (0.0, pytest.approx(2 / 3))


def test_another_server_answers_for_one_that_is_in_trouble(tmp_path: Path) -> None:
    async def broken(request: web.Request, number: int) -> web.Response:
        return web.Response(status=503)

    rows = scored(tmp_path, [Server(behave=broken), saying("1", "1", "1")], [RIGHT, RIGHT])
    assert [row["score"] for row in rows] == [1.5, 1.5]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": 404}, "judge_http_404"),
        ({"status": 400, "text": "too long"}, "judge_refused_by_service"),
        ({"status": 200, "text": "<html>"}, "judge_malformed_answer"),
    ],
)
def test_a_call_that_fails_leaves_the_rollout_unscored_by_its_cause(
    tmp_path: Path, answer: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxygrm.serving.chat.service_client.pause_s", lambda attempt: 0.0)

    async def behave(request: web.Request, number: int) -> web.Response:
        return web.Response(**answer)

    (row,) = scored(tmp_path, [Server(behave=behave)], [RIGHT])
    assert (row["unscored"], row["problem"]) == (1.0, why)


def test_a_service_that_the_job_does_not_have_is_named(tmp_path: Path) -> None:
    with refused("reward.no-service", name="judge", known=["jugde"]) as caught:
        RewardOptions("r", "s", 2, reward=Consistent(), services={"jugde": ["http://n1:1"]})
    assert "did you mean 'jugde'?" in str(caught.value)
    with refused("reward.no-service", name="judge", known=[]):
        RewardOptions("r", "s", 2, reward=Consistent())
