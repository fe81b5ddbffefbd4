"""Real HTTP servers in this process: any app, and the rule-based judge behind a layer that fails."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import uvicorn

from proxygrm.demo.rule_judge import build_app


@contextmanager
def serving(app):
    """The app in a real server on a free port of this process."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


class Flaky:
    """The real judge behind a layer that drops requests: ASGI, so the failures are real HTTP answers."""

    def __init__(self, status: int, every: int) -> None:
        self.app, self.status, self.every, self.calls = build_app(0.0), status, every, 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"].endswith("completions"):
            self.calls += 1
            if self.calls % self.every == 0:
                await send({"type": "http.response.start", "status": self.status, "headers": []})
                return await send({"type": "http.response.body", "body": b"sorry"})
        return await self.app(scope, receive, send)
