"""The demo's consistency judge: its rule, and the server as a job starts it, asked by the reward."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxygrm.critique.prompts import consistency_prompt, read_consistency_prompt
from proxygrm.critique.think_answer import parse
from proxygrm.demo.consistency_judge import reply
from proxygrm.rewards.consistency import Consistency
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins import reward_fn
from proxygrm.serving.services.command import CommandProcess, CommandReplica, CommandServer
from proxygrm.serving.services.server import wait_until_healthy
from support.proxy.small_servers import impatient  # noqa: F401

TEXT = "<think>Response 1 names red.\n{}</think><answer>{}</answer>"
JUDGE = CommandServer(
    name="judge",
    command=("{python}", "-m", "proxygrm.demo.consistency_judge", "--address", "{address}", "--port", "{port}"),
)


@pytest.mark.parametrize(
    ("end", "answer", "digit"),
    [
        ("So response 1 is better.", 1, "1"),
        ("So response 1 is better.", 2, "0"),
        ("Response 2 is clearly better.", 2, "1"),
        ("I prefer 2", 2, "1"),
        ("Response 1 is better in style; response 2 is better in content.", 2, "1"),
        ("Response 1 is better, and response 2 is better.", 1, "0"),
        ("Both are good.", 1, "0"),
        ("", 1, "0"),
    ],
)
def test_the_last_conclusion_is_compared_with_the_decision(end: str, answer: int, digit: str) -> None:
    judgement = parse(TEXT.format(end, answer))
    assert reply(consistency_prompt(judgement.excerpt, judgement.answer_phrase)) == digit


def test_other_messages_are_not_its_business() -> None:
    assert reply("Which is better, 1 or 2?") is None
    assert read_consistency_prompt(consistency_prompt("a\n\nDecision: b", "c")) == ("a\n\nDecision: b", "c")


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_the_reward_asks_the_server_that_a_job_starts(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("the key")
    key.chmod(0o600)
    process = CommandProcess(JUDGE, CommandReplica("judge-0", "n", "127.0.0.1", tmp_path / "log"), {}, "the key")
    process.start()
    try:
        wait_until_healthy(lambda: [process.status()], 60)
        services = {"judge": [process.url]}

        async def scene() -> list[tuple[object, ...]]:
            found = []
            for number, keys in enumerate(({"judge": str(key)}, {})):
                options = RewardOptions("r", "s", 1, reward=Consistency(), services=services, service_keys=keys)
                file = str(options.write(tmp_path / f"{number}.json"))
                for text in (TEXT.format("So 1.", 1), TEXT.format("So 2.", 1), TEXT.format("So 2.", 2)):
                    row = await reward_fn.compute_score("r1", text, "1", {"label": "1"}, options=file)
                    found.append((row["score"], row["consistency"], row["problem"]))
                secret = "the key" if keys else ""
                await reward_fn._service("judge", (process.url,), secret).close()
            return found

        found = asyncio.run(scene())
        with_key, without = found[:3], found[3:]
    finally:
        process.stop()
    assert with_key == [(2.0, 1.0, ""), (1.0, -1.0, ""), (0.5, 0.0, "")]
    assert [problem for _, _, problem in without] == ["judge_http_401", "judge_http_401", ""]
