"""Drawn questions with solutions of known steps, and the rule-based service of process reward over real HTTP."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from jobs.cli.main import main
from proxygrm.demo import sums
from proxygrm.demo.process_service import build_app
from proxygrm.demo.scenes import combinations, draw

MODEL = ("--model", "rule-process")


def drawn_rows(folder: Path, count: int, responses: int = 2, seed: int = 0) -> list[dict[str, Any]]:
    """A policy's rows: the first response of each reads the image rightly, the others wrongly. Images are drawn into
    `folder`."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        combination = combinations("count")[number % 12]
        (folder / f"{number}.png").write_bytes(draw(combination, chance))
        row: dict[str, Any] = {"id": f"q{number}", "question": combination.question, "image": f"{number}.png"}
        row |= {"answer": combination.right, "datasource": "drawn"}
        for at in range(1, responses + 1):
            fact = combination.right if at == 1 else combination.wrong
            row[f"vlmresponse{at}"] = solution(
                (f"There are {fact} of them.", f"the number is {fact}"),
                ("Adding up, 1 + 1 = 2." if at != 2 else "Adding up, 1 + 1 = 3.", None),
                answer=fact,
            )
        rows.append(row)
    return rows


def questions_in_steps(folder: Path, count: int = 8) -> Path:
    """Questions in steps, each about its own drawn image."""
    chance, rows = random.Random(1), []
    for at in range(count):
        number, more = 1 + at % 4, 2 + at % 3
        (folder / f"{at}.png").write_bytes(sums.draw_number(number, chance))
        rows.append({"question": sums.question(more), "image": f"{at}.png", "answer": str(number + more)})
    return write(folder / "questions.jsonl", rows)


def solution(*steps: tuple[str, Any], answer: str = "two") -> dict[str, Any]:
    process = [{"steptext": text, "visualdependency": fact} for text, fact in steps]
    return {"reasoningprocess": process, "finalanswer": answer}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    )
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def process(*words: object, code: int = 0) -> Any:
    """`proxygrm process ...`; its result."""
    done = CliRunner().invoke(main, ["process", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


class Service:
    """The rule-based service behind a layer that counts calls, keeps their instructions, changes answers by `edit`, and
    fails with `status` from the `fail_after`-th call on."""

    def __init__(self, fail_after: int | None = None, status: int = 418, edit=None) -> None:
        self.app, self.fail_after, self.status, self.edit = build_app(), fail_after, status, edit
        self.texts: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    @property
    def calls(self) -> int:
        return len(self.texts)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or not scope["path"].endswith("completions"):
            return await self.app(scope, receive, send)
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        parsed = json.loads(body)
        text = parsed["messages"][-1]["content"][-1]["text"]
        if self.fail_after is not None and self.calls >= self.fail_after:
            await send({"type": "http.response.start", "status": self.status, "headers": []})
            return await send({"type": "http.response.body", "body": b"sorry"})
        self.texts.append(text)
        self.bodies.append(parsed)
        answer = self.edit(text) if self.edit else None
        if answer is not None:
            choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
            content = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            return await send({"type": "http.response.body", "body": content})

        async def again():
            return {"type": "http.request", "body": body, "more_body": False}

        return await self.app(scope, again, send)
