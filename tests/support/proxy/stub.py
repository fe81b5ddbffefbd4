"""Stub replicas: real HTTP servers on loopback that answer like vLLM's chat API, or misbehave as a test needs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from proxygrm.serving.access.held_port import hold
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient


def completion(text: str, finish_reason: str = "stop") -> web.Response:
    return web.json_response({"choices": [{"message": {"content": text}, "finish_reason": finish_reason}]})


class Server:
    """Answers `<answer>VERDICT</answer>`, unless `behave(request, number)` returns a response. Remembers images by
    uuid, as vLLM does. ended: requests that were answered; cancelled: those whose client disconnected."""

    def __init__(self, verdict="1", behave=None, reads=True):
        self.verdict, self.behave, self.reads = verdict, behave, reads
        self.seen: list[dict] = []
        self.now = self.most = self.ended = self.cancelled = 0
        self.images: set[str] = set()
        self.runner: web.AppRunner | None = None
        self.held: socket.socket | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.seen.append({"body": body, "headers": dict(request.headers)})
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.behave is not None and (answer := await self.behave(request, len(self.seen))) is not None:
                return answer
            for part in body["messages"][0]["content"]:
                if part["type"] == "image_url" and (refusal := self.fetch(part)) is not None:
                    return refusal
            self.ended += 1
            return self.reply(body)
        except BaseException:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1

    def reply(self, body: dict) -> web.Response:
        return completion(f"<think>the rubric says so</think><answer>{self.verdict}</answer>")

    def fetch(self, part: dict) -> web.Response | None:
        uuid, url = part.get("uuid"), (part["image_url"] or {}).get("url")
        if url is None and uuid not in self.images:
            return web.Response(status=400, text="Cache miss for image at index 0 but data is not provided.")
        if url and url.startswith("file:") and not (self.reads and Path(unquote(url[7:])).exists()):
            return web.Response(status=400, text="no such file")
        self.images |= {uuid} if uuid else set()
        return None

    async def start(self) -> str:
        app = web.Application(client_max_size=64 * 1024**2)
        for path in ("/v1/chat/completions", "/v1/score"):
            app.router.add_post(path, self.handle)
        app.router.add_get("/health", self.health)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self.runner.setup()
        self.held = self.held or hold("127.0.0.1")
        port = self.held.getsockname()[1]
        await web.TCPSite(self.runner, "127.0.0.1", port, reuse_port=True).start()
        return f"http://127.0.0.1:{port}"

    async def health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def stop(self) -> None:
        """Cut the connections; `start` brings the server back at the same URL, whose port nobody takes meanwhile."""
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None


@contextlib.asynccontextmanager
async def stubs(*servers: Server):
    try:
        yield [await server.start() for server in servers]
    finally:
        for server in servers:
            await server.stop()
            if server.held is not None:
                server.held.close()
                server.held = None


async def until(condition: Callable[[], bool]) -> None:
    """A busy machine takes its time; a request that hangs for 60 s is not one that was closed."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(*servers: Server, endpoints=None, **client):
    """A client of these servers, and their URLs."""
    async with stubs(*servers) as urls:
        group = Endpoints(tuple(urls), api_key="key", max_tokens=64, **(endpoints or {}))
        proxy = ProxyClient(group, **{"timeout_s": 60.0, **client})
        try:
            yield proxy, urls
        finally:
            await proxy.aclose()
