"""The API of served reward models as a real HTTP server, over stub replicas that score or write by a plain rule."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from aiohttp import web

from proxygrm.critique.prompts import read_grm_prompt
from proxygrm.critique.prompts.process import DESCRIBE, read_prompt
from proxygrm.demo import process_service
from proxygrm.reward_service.api import api
from proxygrm.reward_service.generative import GenerativeModel
from proxygrm.reward_service.judges import RewardModel
from proxygrm.reward_service.process import ProcessModel
from proxygrm.reward_service.scalar import ScalarModel
from proxygrm.serving.endpoints import Endpoints
from support.proxy.stub import Server, completion, stubs

KEY = {"Authorization": "Bearer reward-key"}


class Scoring(Server):
    """Scores a response by its length."""

    def reply(self, body: dict) -> web.Response:
        return web.json_response({"scores": [float(len(response)) for response in body["responses"]]})


class Writing(Server):
    """Prefers the longer response, and the first of equal ones. favours: always that place instead."""

    def __init__(self, favours: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.favours = favours

    def reply(self, body: dict) -> web.Response:
        shown = read_grm_prompt(body["messages"][0]["content"][-1]["text"])
        assert shown is not None, body
        better = self.favours or (1 if len(shown.response_1) >= len(shown.response_2) else 2)
        return completion(
            f"<rubric>Length (100%)<justify>it is the rule</justify></rubric><eval>{better} is longer</eval>"
            f"<answer>{better}</answer>"
        )


class Stepping(Server):
    """Sees three red circles; audits and judges as the demo's rules do."""

    def reply(self, body: dict) -> web.Response:
        text = body["messages"][0]["content"][-1]["text"]
        if read_prompt(DESCRIBE, text) is not None:
            return completion('{"image_description": "three red circles"}')
        said = process_service.reply(text, [])
        assert said is not None, text
        return completion(said)


def model_of(server: Server, group: Endpoints, timeout_s: float, **options: Any) -> RewardModel:
    kind = {Scoring: ScalarModel, Stepping: ProcessModel}.get(type(server), GenerativeModel)
    return kind(group, timeout_s, **options)


@contextlib.asynccontextmanager
async def served(
    *,
    images: Path | None = None,
    timeout_s: float = 60.0,
    options: dict | None = None,
    **models: list[Server],
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the API. options: of the models. models: the stub replicas of each,
    by its name."""
    async with contextlib.AsyncExitStack() as stack:
        judges: dict[str, RewardModel] = {}
        for name, servers in models.items():
            urls = await stack.enter_async_context(stubs(*servers))
            group = Endpoints(tuple(urls), "key", max_tokens=64, images_by_name=True)
            judges[name] = model_of(servers[0], group, timeout_s, **(options or {}))
        yield await stack.enter_async_context(client_of(judges, images))


@contextlib.asynccontextmanager
async def client_of(judges: dict[str, RewardModel], images: Path | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Of an API of these models."""
    server = uvicorn.Server(uvicorn.Config(api(judges, "reward-key", images), port=0, log_level="critical"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=KEY, trust_env=False, timeout=60) as http:
        yield http
    server.should_exit = True
    await serving


@contextlib.contextmanager
def serve_reward(model: Path | str, folder: Path, *options: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on the CPU, and its address once it listens. folder: of its logs and its key."""
    command = [sys.executable, "-m", "jobs", "serve-reward", model, "--device", "cpu", "--dir", folder, *options]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("reward models: "):
                break
        else:
            raise AssertionError("".join(lines))
        yield process, line.split()[2]
    finally:
        process.kill()
        process.wait()


def ask(request: Callable[[httpx.AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    async def scene() -> Any:
        async with served(**options) as http:
            return await request(http)

    return asyncio.run(scene())
