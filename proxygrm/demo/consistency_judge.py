"""The stand-in for R1-Reward's consistency judge in the laptop demo. It is not a model.

It serves the OpenAI chat API, takes the same question as a real judge (prompts/consistency.txt), and compares by rule:
the response that the end of the reasoning calls better at last, and the one that the decision names. It replies 1 if
they are the same, and 0 if not, if the reasoning names none, or if its last sentence names both. Other requests get
HTTP 422. Callers send the key in SERVICE_API_KEY, where that is set, as to any service of a job.

    python -m proxygrm.demo.consistency_judge --address 127.0.0.1 --port 8010
"""

from __future__ import annotations

import hmac
import os
import re
from typing import Any

import click
from aiohttp import web

from proxygrm.critique.prompts import read_consistency_prompt

MODEL = "rule-consistency-judge"
_BETTER = re.compile(
    r"response ([12]) is (?:clearly |much )?better|\b(?:prefer|choose|so) (?:response )?([12])\b", re.I
)
_DECISION = re.compile(r"response ([12]) is better")


def reply(prompt: str) -> str | None:
    """The digit; None for anything but the question of prompts/consistency.txt. Pure."""
    parts = read_consistency_prompt(prompt)
    if parts is None:
        return None
    reasoning, decision = parts
    named = _named(reasoning.rpartition(";")[2]) or _named(reasoning)[-1:]
    decided = _DECISION.fullmatch(decision)
    return "1" if decided and set(named) == {decided[1]} else "0"


def _named(text: str) -> list[str]:
    """The responses that it calls better."""
    return [match[1] or match[2] for match in _BETTER.finditer(text)]


def build_app(key: str = "") -> web.Application:
    async def chat(request: web.Request) -> web.Response:
        if key and not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {key}"):
            return _refused("the key is missing or wrong", 401)
        try:
            content = (await request.json())["messages"][-1]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            return _refused("the body is not a chat request", 400)
        digit = reply(content) if isinstance(content, str) else None
        if digit is None:
            return _refused("the message is not the consistency question (prompts/consistency.txt)", 422)
        message = {"role": "assistant", "content": digit}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"object": "chat.completion", "model": MODEL, "choices": choices})

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/health", health)
    return app


def _refused(message: str, status: int) -> web.Response:
    error: dict[str, Any] = {"message": message, "type": "not_a_consistency_question", "code": status}
    return web.json_response({"error": error}, status=status)


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--address", default="127.0.0.1", show_default=True)
@click.option("--port", default=8010, show_default=True)
def main(address: str, port: int) -> None:
    app = build_app(os.environ.get("SERVICE_API_KEY", ""))
    web.run_app(app, host=address, port=port, backlog=1024, print=None, access_log=None)


if __name__ == "__main__":
    main()
