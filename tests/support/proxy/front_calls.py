"""Calls of the proxy's front end."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import uvicorn

from proxygrm.serving.front.app import front
from support.proxy.stub import Server, running

RUBRIC = "<rubric>\nNames the colour (100%)\n</rubric>"

ASKED = {"question": "What colour?", "chosen": "Red.", "rejected": "Blue.", "answer": "1", "rubric": RUBRIC}

KEY = {"Authorization": "Bearer front-key"}


@contextlib.asynccontextmanager
async def front_end(*servers: Server, images=None, **client):
    """An HTTP client of a front end over these replicas."""
    async with running(*servers, **client) as (proxy, _):
        config = uvicorn.Config(front(proxy, "front-key", images), port=0, log_level="critical")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=KEY, trust_env=False, timeout=60) as http:
            yield http
        server.should_exit = True
        await serving


def ask(request, *servers, **options):
    async def scene():
        async with front_end(*(servers or (Server(),)), **options) as http:
            return await request(http)

    return asyncio.run(scene())
