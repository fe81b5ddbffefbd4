"""Real HTTP servers in this process: any app, one of few words, and the rule-based judge behind a layer that fails."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import contextmanager

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


async def body_of(receive) -> bytes:
    body = b""
    while (message := await receive()).get("more_body") or "body" in message:
        body += message["body"]
        if not message.get("more_body"):
            break
    return body


class Replies:
    """An OpenAI-compatible judge named `one` that answers each prompt with what `reply` makes of it and its number."""

    def __init__(self, reply: Callable[[str, int], str]) -> None:
        self.reply = reply
        self.prompts: list[str] = []

    async def __call__(self, scope, receive, send):
        body = await body_of(receive)
        if scope["path"].endswith("completions"):
            parts = json.loads(body)["messages"][0]["content"]
            text = parts if isinstance(parts, str) else next(part["text"] for part in parts if part["type"] == "text")
            self.prompts.append(text)
            choice = {"message": {"content": self.reply(text, len(self.prompts))}, "finish_reason": "stop"}
            answer = {"choices": [choice], "usage": {"completion_tokens": 9}}
        else:
            answer = {"data": [{"id": "one"}]}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


class Flaky:
    """The real judge behind a layer that drops requests: ASGI, so the failures are real HTTP answers. once: each prompt
    at most once, or else one whose attempts all have such a number is lost, now and then."""

    def __init__(self, status: int, every: int, once: bool = False) -> None:
        self.app, self.status, self.every, self.calls = build_app(0.0), status, every, 0
        self.once, self.dropped = once, set[bytes]()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"].endswith("completions"):
            body = await body_of(receive)
            receive = self._again(body, receive)
            self.calls += 1
            if self.calls % self.every == 0 and not (self.once and body in self.dropped):
                self.dropped.add(body)
                await send({"type": "http.response.start", "status": self.status, "headers": []})
                return await send({"type": "http.response.body", "body": b"sorry"})
        return await self.app(scope, receive, send)

    @staticmethod
    def _again(body: bytes, receive):
        """As `receive` was before the body was read."""
        first = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again():
            return next(first, None) or await receive()

        return again


def always_one(prompt: str, number: int) -> str:
    """Response 1 is better, and now and then it cannot decide."""
    return GOOD.replace("<answer>1", "<answer>1 or 2") if number % 8 == 0 else GOOD


class AlwaysOne(Replies):
    def __init__(self) -> None:
        super().__init__(always_one)
