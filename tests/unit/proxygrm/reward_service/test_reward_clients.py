"""The clients of docs/serving.md, as they are printed there, against the real API over stub replicas."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web
from PIL import Image

from support.proxy.reward_calls import Scoring, Writing, served

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]


def example(name: str, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file of docs/examples, as a trainer loads it."""
    (folder / "reward.key").write_text("reward-key\n")
    monkeypatch.setenv("REWARD_URL", url)
    monkeypatch.setenv("REWARD_KEY_FILE", str(folder / "reward.key"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FIRST_PAUSE_S, module.ATTEMPTS = 0.01, 3
    return module


def snippet(language: str) -> str:
    text = (ROOT / "docs" / "serving.md").read_text().partition("## Clients")[2]
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found


def busy(failures: int):
    """The first so many requests fail; the pool gives up sooner than the client."""

    async def behave(request, number):
        return web.Response(status=500) if number <= failures else None

    return behave


def test_verls_reward_function_scores_rollouts_and_raises_where_there_is_no_score(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")

    async def scene(server: Scoring, solutions: list[str], extra: dict) -> list:
        async with served(rm=[server], images=tmp_path, timeout_s=0.5) as http:
            module = example("reward_for_verl", str(http.base_url).rstrip("/"), tmp_path, monkeypatch)
            calls = [module.compute_score("pairs", text, "1", extra, reward_router_address=None) for text in solutions]
            return await asyncio.gather(*calls, return_exceptions=True)

    extra = {"question": "Which?", "images": ["a.png"], "num_turns": 2}
    found = asyncio.run(scene(Scoring(), ["four", "longer text", " \n"], extra))
    assert found == [{"score": 4.0, "blank": 0.0}, {"score": 11.0, "blank": 0.0}, {"score": -10.0, "blank": 1.0}]
    (recovered,) = asyncio.run(scene(Scoring(behave=busy(2)), ["four"], extra))
    assert recovered == {"score": 4.0, "blank": 0.0}
    for server, asked in ((Scoring(behave=busy(10**6)), extra), (Scoring(), {**extra, "images": ["gone.png"]})):
        (lost,) = asyncio.run(scene(server, ["four"], asked))
        assert isinstance(lost, RuntimeError)
        assert ("HTTP 503" if asked is extra else "gone.png") in str(lost)


@pytest.mark.parametrize("conversational", [False, True])
def test_trls_reward_function_scores_the_completions_of_a_prompt_together(tmp_path, monkeypatch, conversational):
    def turns(role: str, text: str):
        return [{"role": role, "content": text}] if conversational else text

    prompts = [turns("user", text) for text in ("Which?", "Which?", "Which?", "Other?", "Other?")]
    completions = [turns("assistant", text) for text in ("four", "longest", "", "a", "bbb")]

    async def scene(**models) -> list[float]:
        async with served(**models) as http:
            module = example("reward_for_trl", str(http.base_url).rstrip("/"), tmp_path, monkeypatch)
            # As GRPOTrainer._calculate_rewards of TRL 0.29 calls it.
            return await asyncio.to_thread(
                module.served_reward,
                prompts=prompts,
                completions=completions,
                completion_ids=[[1]] * 5,
                trainer_state=None,
            )

    scoring = Scoring()
    assert asyncio.run(scene(rm=[scoring])) == [4.0, 7.0, -10.0, 1.0, 3.0]
    assert len(scoring.seen) == 2
    assert asyncio.run(scene(grm=[Writing()])) == [0.0, 1.0, -10.0, 0.0, 1.0]


def test_the_python_client_sends_an_image_once(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "reward.key").write_text("reward-key")

    async def scene() -> tuple[list, list]:
        async with served(rm=[Scoring()]) as http:
            code = snippet("python").replace("http://127.0.0.1:8000", str(http.base_url).rstrip("/"))
            names: dict = {}
            exec(compile(code.replace('"reward.key"', repr(str(tmp_path / "reward.key"))), "serving.md", "exec"), names)
            asked = ("Which?", ["a", "longest"], tmp_path / "a.png")
            first = await asyncio.to_thread(names["rank"], *asked)
            again = await asyncio.to_thread(names["rank"], *asked)
            metrics = (await http.get("/metrics")).text
            assert 'proxygrm_reward_responses_total{path="/score",status="404"} 1.0' in metrics
            return first, again

    first, again = asyncio.run(scene())
    assert first == again == [(7.0, "longest"), (1.0, "a")]


def test_the_curl_commands_work(tmp_path):
    (tmp_path / "reward.key").write_text("reward-key")

    async def scene() -> str:
        async with served(rm=[Scoring()]) as http:
            script = snippet("bash").replace("http://127.0.0.1:8000", str(http.base_url).rstrip("/"))
            environment = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
            done = await asyncio.to_thread(
                subprocess.run, ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

    output = asyncio.run(scene())
    assert '{"scores":[10.0,5.0],"how":"scalar"}' in output
    assert '"verdict":1' in output
