"""The hybrid reward through the real API of served reward models, over stub replicas: scores, and a death mid-step."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from proxygrm.core.images.store import ImageStore
from proxygrm.process.aggregate import aggregate
from proxygrm.rewards.answers import AsksRewardModel, Hybrid, RewardModelScore, sigmoid
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins import reward_fn
from proxygrm.rl.plugins.step_rollouts import step_metrics
from support.proxy.reward_calls import KEY, Scoring, Stepping, Writing, served
from support.proxy.stub import completion

ROW = {"id": "q", "question": "Which colour?", "answers": ["red"], "choices": [], "reference": "It is red."}


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 0, 0)).save(out, "PNG")
    return out.getvalue()


def rewarded(
    tmp_path: Path, reward: AsksRewardModel, server: Any, texts: list[str], dies_after: int
) -> list[dict[str, Any]]:
    store = ImageStore(tmp_path)
    row = ROW | {"images": [str(store.folder.absolute() / store.add(png()))]}
    key = tmp_path / "key"
    key.write_text(KEY["Authorization"].removeprefix("Bearer "))
    key.chmod(0o600)

    async def scene() -> list[dict[str, Any]]:
        async with served(images=store.folder, timeout_s=1.0, model=[server]) as http:
            url = str(http.base_url).rstrip("/")
            options = RewardOptions(
                "r", "s", 2, reward=reward, services={"reward_model": [url]}, service_keys={"reward_model": str(key)}
            ).write(tmp_path / "options.json")
            reward_fn._options.cache_clear()
            rows = []
            for number, text in enumerate(texts):
                if number == dies_after:
                    await server.stop()
                rows.append(await reward_fn.compute_score("questions", text, "red", row, options=str(options)))
            client = reward_fn._service("reward_model", (url,), key.read_text())
            await client.close()
            reward_fn._service.cache_clear()
            return rows

    return asyncio.run(scene())


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxygrm.serving.chat.service_client.pause_s", lambda attempt: 0.0)


def test_a_reward_model_that_dies_in_mid_step_leaves_its_rollouts_out_and_counted(tmp_path: Path) -> None:
    server = Scoring()
    rows = rewarded(tmp_path, Hybrid(), server, ["red", "blue", "", "red", "green"], dies_after=3)
    assert [(row["score"], row["unscored"], row["asked"]) for row in rows] == [
        (1.0, 0.0, 0.0), (pytest.approx(sigmoid(4.0)), 0.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    ]  # fmt: skip
    assert [row["problem"] for row in rows[:4]] == ["", "", "empty", ""]
    assert rows[4]["problem"].startswith("reward_model_")
    assert len({tuple(row) for row in rows}) == 1
    assert server.seen[0]["body"]["responses"] == ["blue"]
    metrics = step_metrics([{**row, "group": "g"} for row in rows], 5, Hybrid())
    assert metrics[f"reward/unscored_by/{rows[4]['problem']}"] == 1
    assert (metrics["reward/matches"], metrics["reward/model_score"]) == (0.5, 4.0)


def solution(*steps: str, answer: str = "blue") -> str:
    """Each step claims to see what it says, but for those with a sum."""
    process = [{"steptext": step, "visualdependency": None if "=" in step else step} for step in steps]
    return json.dumps({"reasoningprocess": process, "finalanswer": answer})


def test_a_process_model_rewards_the_steps_that_the_policy_wrote(tmp_path: Path) -> None:
    async def babbles(request, number):
        text = server.seen[-1]["body"]["messages"][0]["content"][-1]["text"]
        return completion("perhaps") if "mumble" in text else None

    server = Stepping(behave=babbles)  # it sees three red circles
    right, wrong = "There are three circles.", "The circles are blue."
    texts = [solution(right, "1 + 1 = 2"), solution(right, wrong, "1 + 1 = 3"), solution("mumble"), "blue", ""]
    rows = rewarded(tmp_path, RewardModelScore(steps=True), server, texts, dies_after=9)
    gated = [0.5, -1.0, -1.0]  # half of what is claimed is there
    scores = [1.0, aggregate("mean", gated), 0.0, 0.0, 0.0]
    assert [row["score"] for row in rows] == scores
    assert [(row["unscored"], row["problem"]) for row in rows] == [
        (0.0, ""), (0.0, ""), (1.0, "reward_model_http_503"), (0.0, "no_steps"), (0.0, "empty")
    ]  # fmt: skip
    assert len({tuple(row) for row in rows}) == 1
    metrics = step_metrics([{**row, "group": "g"} for row in rows], 5, RewardModelScore(steps=True))
    assert metrics["reward/unscored_by/reward_model_http_503"] == 1
    assert (metrics["reward/no_steps"], metrics["reward/empty"]) == (0.2, 0.2)


def test_a_reward_model_that_writes_compares_with_the_reference(tmp_path: Path) -> None:
    rows = rewarded(tmp_path, Hybrid(compares=True), Writing(), ["blue", "a very long wrong answer"], dies_after=9)
    assert [(row["score"], row["unscored"]) for row in rows] == [(0.0, 0.0), (1.0, 0.0)]
