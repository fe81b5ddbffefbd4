"""Real HTTP servers in this process: any app, and the rule-based judge behind a layer that fails."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from typing import Any

import uvicorn

from proxygrm.demo.rule_judge import build_app

GOOD = "<think>Both name red.\nSo 1.</think><answer>1</answer>"


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


class AlwaysOne:
    """An OpenAI-compatible judge that finds response 1 better, and now and then cannot decide."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body") or "body" in message:
            body += message["body"]
            if not message.get("more_body"):
                break
        if scope["path"].endswith("completions"):
            parts = json.loads(body)["messages"][0]["content"]
            self.prompts.append(next(part["text"] for part in parts if part["type"] == "text"))
            text = GOOD.replace("<answer>1", "<answer>1 or 2") if len(self.prompts) % 8 == 0 else GOOD
            answer: Any = {
                "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
                "usage": {"completion_tokens": 9},
            }
        else:
            answer = {"data": [{"id": "one"}]}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
