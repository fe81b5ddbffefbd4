"""`proxygrm serve-reward` with real replicas of a tiny scalar model: its scores, and what a fault does to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from support.proxy.reward_calls import serve_reward
from support.scalar_models import make_scalar

pytest.importorskip("torch")

pytestmark = pytest.mark.heavy

CALLS = 48


def replicas_of(model: Path) -> list[int]:
    """Process ids of the replicas that serve it."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if b"proxygrm.scalar.replica" in words and os.fsencode(model) in words:
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("models")
    build_tiny_model(folder / "tiny", demo_corpus(0, n=50))
    return make_scalar(folder / "tiny", folder / "rm")


def bodies() -> list[dict[str, Any]]:
    return [
        {"question": f"Which colour is sign {number % 8}?", "images": "red.png", "responses": [f"red {number}", "blue"]}
        for number in range(CALLS)
    ]


def expected(model: Path, images: Path) -> list[tuple[float, ...]]:
    from proxygrm.scalar.conversation import Item
    from proxygrm.scalar.scorer import Scorer

    red = Image.open(images / "red.png").convert("RGB")
    items = [Item(str(n), body["question"], tuple(body["responses"]), (red,)) for n, body in enumerate(bodies())]
    scores = {score.key: score.scores for score in Scorer(model).scores(items)}
    return [scores[str(number)] for number in range(CALLS)]


def test_a_scalar_service_scores_as_the_scorer_and_survives_its_replicas(model: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (56, 56), "red").save(images / "red.png")
    right = expected(model, images)

    async def calls(http: httpx.AsyncClient, fault: Any = None) -> list[httpx.Response]:
        pending = [asyncio.create_task(http.post("/score", json=body)) for body in bodies()]
        if fault:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            fault()
        return await asyncio.gather(*pending)

    async def healthy(http: httpx.AsyncClient, status: str) -> None:
        until = time.monotonic() + 300
        while (await http.get("/health")).json()["status"] != status:
            assert time.monotonic() < until, f"it never became {status}"
            await asyncio.sleep(0.2)

    def kill(count: int) -> None:
        for process in replicas_of(model)[:count]:
            os.kill(process, signal.SIGKILL)

    async def scene(url: str) -> None:
        key = (tmp_path / "service" / "reward.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=120) as http:
            for replies in (await calls(http), await calls(http, lambda: kill(1))):
                assert [reply.status_code for reply in replies] == [200] * CALLS
                for reply, scores in zip(replies, right, strict=True):
                    assert reply.json()["scores"] == pytest.approx(scores, abs=1e-5)
            await healthy(http, "ok")
            for reply, scores in zip(await calls(http, lambda: kill(2)), right, strict=True):
                if reply.status_code == 200:  # before the fault
                    assert reply.json()["scores"] == pytest.approx(scores, abs=1e-5)
                else:
                    assert reply.status_code == 503
                    assert reply.json().keys() == {"error"}
                    assert reply.json()["error"]["cause"] in ("connection", "timeout", "breaker_open", "no_room")
            metrics = (await http.get("/metrics")).text
            assert f'proxygrm_reward_calls_total{{model="rm"}} {3 * CALLS}.0' in metrics

    options = ("--replicas", 2, "--images", images, "--timeout", 30, "--max-num-seqs", 8)
    with serve_reward(model, tmp_path / "service", *options) as (process, url):
        asyncio.run(scene(url))
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait(120) == 0, rest
        assert rest.endswith("stopped\n")
        assert "restarting" in rest
    assert replicas_of(model) == []
    assert sorted(path.name for path in (tmp_path / "service" / "rm").iterdir()) == ["rm-0.log", "rm-1.log"]
