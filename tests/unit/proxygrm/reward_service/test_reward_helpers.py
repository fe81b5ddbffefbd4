"""A process model whose describing and auditing other models do, started here or behind an endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.cli.main import main
from proxygrm.core.checkpoints.kinds import mark_process
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.reward_service.judges import CountedPool
from proxygrm.reward_service.models import read_helper, read_kinds, read_models
from proxygrm.reward_service.process import ProcessModel
from proxygrm.serving.endpoints import Endpoints
from support.proxy.reward_calls import Stepping, client_of
from support.proxy.stub import completion, stubs
from support.refusals import code_of, refused
from support.small_checkpoints import write_checkpoint

STEPS = [{"steptext": "Three circles.", "visualdependency": "there are three circles"}, {"steptext": "So 1 + 1 = 3."}]


def stage_of(seen: dict) -> str:
    text = seen["body"]["messages"][0]["content"][-1]["text"]
    return {"Describ": "describe", "Two tex": "audit"}.get(text[:7], "step")


@contextlib.asynccontextmanager
async def helped(
    judge: Stepping, extractor: Stepping, auditor: Stepping, images: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """An API over a judge whose extractor is an endpoint and whose auditor is of the judge's kind."""
    async with stubs(judge, extractor, auditor) as urls:
        groups = [Endpoints((url,), "key", max_tokens=64, images_by_name=True) for url in urls]
        endpoint = Endpoint(f"{urls[1]}/v1", "describer", 4, 5.0, api_key_env="DESCRIBER_KEY")
        helpers = {"extractor": CountedPool(endpoint.pool()), "auditor": CountedPool(groups[2])}
        async with client_of({"prm": ProcessModel(groups[0], 5.0, helpers=helpers)}, images) as http:
            yield http


@pytest.mark.slow
def test_each_stage_is_asked_of_its_own_model_and_counted_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DESCRIBER_KEY", "of-the-endpoint")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "in.png")
    judge, extractor, auditor = Stepping(), Stepping(), Stepping()

    async def scene() -> tuple[httpx.Response, str, dict]:
        async with helped(judge, extractor, auditor, tmp_path) as http:
            body = {"question": "How many circles?", "images": "in.png", "steps": STEPS}
            found = await http.post("/steps", json=body)
            return found, (await http.get("/metrics")).text, (await http.get("/health")).json()

    found, metrics, health = asyncio.run(scene())
    assert found.json() == {"raw": [1.0, -1.0], "final": [1.0, -1.0], "reliability": 1.0}
    asked = [[stage_of(seen) for seen in server.seen] for server in (judge, extractor, auditor)]
    assert asked == [["step", "step"], ["describe"], ["audit"]]
    (described,) = extractor.seen
    assert described["headers"]["Authorization"] == "Bearer of-the-endpoint"
    assert described["body"]["model"] == "describer"
    image = described["body"]["messages"][0]["content"][0]["image_url"]["url"]
    assert image.startswith("data:image/png;base64,"), "an endpoint reads no file of ours"
    for name, calls in (("prm", 2), ("extractor", 1), ("auditor", 1)):
        assert f'proxygrm_reward_scored_total{{model="{name}"}} {calls}.0' in metrics
    assert health["models"] == {"prm": {"replicas": 1, "healthy": 1}}, "an endpoint's health is its own"


@pytest.mark.slow
def test_a_helper_that_answers_nothing_leaves_the_steps_without_a_score(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DESCRIBER_KEY", "k")

    async def babble(request, number):
        return completion("the image is nice", "stop")

    async def scene() -> tuple[httpx.Response, str]:
        async with helped(Stepping(), Stepping(), Stepping(behave=babble), tmp_path) as http:
            found = await http.post("/steps", json={"question": "How many?", "steps": STEPS})
            return found, (await http.get("/metrics")).text

    found, metrics = asyncio.run(scene())
    assert (found.status_code, found.json()["error"]["cause"], "process_audit" in found.text) == (503, "unparsed", True)
    assert 'proxygrm_reward_unscored_total{cause="unparsed",model="auditor"} 1.0' in metrics


@pytest.mark.slow
def test_a_helper_that_was_started_here_has_to_be_healthy() -> None:
    async def scene() -> httpx.Response:
        async with stubs(Stepping(), Stepping()) as (judge, extractor):
            gone = CountedPool(Endpoints((extractor,), "key", proven=True))  # it does not prove that it has the key
            prm = ProcessModel(Endpoints((judge,), "key"), helpers={"extractor": gone})
            async with client_of({"prm": prm}) as http:
                return await http.get("/health")

    health = asyncio.run(scene())
    assert (health.status_code, health.json()["models"]["extractor"]) == (503, {"replicas": 1, "healthy": 0})


def checkpoint(folder: Path, scalar: bool = False) -> Path:
    folder.mkdir()
    write_checkpoint(folder)
    if scalar:
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "reward_head": {"layers": 1}}))
    return folder


def test_the_kind_is_as_the_user_says_where_the_checkpoint_does_not_contradict(tmp_path: Path) -> None:
    plain, marked = checkpoint(tmp_path / "plain"), checkpoint(tmp_path / "marked")
    rm = checkpoint(tmp_path / "rm", scalar=True)
    mark_process(marked, {})

    def kinds(*texts: str, models: tuple[Path, ...] = (plain, marked)) -> list[str]:
        return [model.kind for model in read_models(map(str, models), read_kinds(texts))]

    assert kinds() == ["generative", "process"]
    assert kinds("plain=process", "generative") == ["process", "generative"]
    assert [model.kind for model in read_models([f"a={plain}", f"b={plain}"], {"b": "process"})] == [
        "generative",
        "process",
    ]
    with refused("checkpoint.other-kind"):
        kinds("process", models=(rm,))
    with refused("checkpoint.unknown-kind", kind="steps"):
        kinds("steps")
    with refused("serve-reward.unknown-model", name="other"):
        kinds("other=process")
    with refused("serve-reward.repeated-kind", name="plain"):
        read_kinds(["plain=process", "plain=generative"])
    models = read_models([str(marked), f"extractor={plain}"])
    assert read_helper("auditor", plain, models).kind == "generative"
    with refused("serve-reward.duplicate-name", name="extractor"):
        read_helper("extractor", plain, models)
    with refused("checkpoint.scalar"):
        read_helper("auditor", rm, models)


def test_the_command_refuses_helpers_that_would_do_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain, marked = checkpoint(tmp_path / "plain"), checkpoint(tmp_path / "marked")
    mark_process(marked, {})

    def refusal(*words: object) -> str:
        result = CliRunner().invoke(main, ["serve-reward", *map(str, words)])
        assert (result.exit_code, len(result.output.strip().splitlines())) == (2, 1), result.output
        return code_of(result.output)

    assert refusal(plain, "--auditor", plain) == "option.no-effect"
    assert refusal(marked, "--model", "qwen") == "option.no-effect"
    assert refusal(marked, "--extractor", plain, "--api-key-env", "KEY") == "option.no-effect"
    assert refusal(marked, "--extractor", tmp_path / "gone") == "judge.unknown-kind"
    assert refusal(marked, "--auditor", "http://127.0.0.1:9") == "judge.no-model"
    url = ("--auditor", "http://127.0.0.1:9", "--model", "auditor=a")
    assert refusal(marked, *url, "--api-key-env", "NOT_SET_ANYWHERE") == "judge.no-key"
    (tmp_path / "open.key").write_text("k")
    (tmp_path / "open.key").chmod(0o644)
    assert refusal(marked, *url, "--api-key-file", tmp_path / "open.key") == "key-file.not-private"
    monkeypatch.setenv("TWO_LINES", "a\nb")
    assert refusal(marked, *url, "--api-key-env", "TWO_LINES") == "key.unusable"


def test_a_checkpoint_with_several_tasks_is_counted_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("proxygrm.reward_service.run.check_vllm", lambda: None)  # not installed for every Python
    plain, marked = checkpoint(tmp_path / "plain"), checkpoint(tmp_path / "marked")
    mark_process(marked, {})
    (tmp_path / "alias").symlink_to(marked)
    models = (f"a={marked}", f"b={tmp_path / 'alias'}", "--extractor", str(plain), "--auditor", str(plain))
    few = CliRunner().invoke(main, ["serve-reward", *models, "--device", "cuda", "--replicas", "2"])
    assert code_of(few.output) == "proxy.too-few-gpus"
    assert "4 GPUs, 2 are visible" in few.output
