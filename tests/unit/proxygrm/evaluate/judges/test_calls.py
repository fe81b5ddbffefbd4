"""Requests that depend on answers: an endpoint is asked as soon as they are ready, and never waits for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointCalls
from proxygrm.evaluate.judges.engine import Request
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.settings import EvaluateSettings
from support.evaluate.http_judges import serving
from support.refusals import refused

pytestmark = pytest.mark.slow


def app(fails: str = "", bodies: list | None = None) -> FastAPI:
    """Answers with the request's own text; those that begin with `fails` get no answer."""

    async def chat(request: HttpRequest) -> Response:
        body = json.loads(await request.body())
        if bodies is not None:
            bodies.append(body)
        text = body["messages"][0]["content"][-1]["text"]
        if fails and text.startswith(fails):
            return JSONResponse({}, 418)
        tops = [{"token": "1", "logprob": -0.25}, {"token": "-", "logprob": -1.5}]
        choice = {
            "message": {"content": text},
            "finish_reason": "stop",
            "logprobs": {"content": [tops[0] | {"top_logprobs": tops}]},
        }
        return JSONResponse({"choices": [choice]})

    service = FastAPI()
    service.post("/v1/chat/completions")(chat)
    return service


class Tree:
    """Requests in levels: a node's two children may be asked about once it is answered."""

    def __init__(self, depth: int) -> None:
        self.depth, self.ready, self.rows, self.waiting = depth, ["n"], list[Row](), set[str]()

    def requests(self) -> Iterator[Request | None]:
        while self.ready or self.waiting:
            if self.ready:
                key = self.ready.pop()
                self.waiting.add(key)
                yield Request(key, key)
            else:
                yield None

    def take(self, row: Row) -> None:
        self.rows.append(row)
        self.waiting.remove(row["key"])
        if len(row["key"]) <= self.depth:
            self.ready += [row["key"] + "l", row["key"] + "r"]


def answered(url: str, tree: Tree, **settings: float) -> list[str]:
    calls = EndpointCalls(Endpoint(url, "any", concurrency=3, attempts=1), EvaluateSettings(**settings))
    calls.answer(tree.requests(), 15, 0, tree.take, False)
    return [row["key"] for row in tree.rows]


def test_what_depends_on_an_answer_is_asked_once_it_has_arrived() -> None:
    with serving(app()) as url:
        keys = answered(url, Tree(3))
    assert len(keys) == len({*keys}) == 15
    assert all(key[:-1] in keys[: keys.index(key)] for key in keys if key != "n")


def test_a_call_that_fails_keeps_what_depends_on_it_from_being_asked_and_nothing_waits_for_it() -> None:
    tree = Tree(3)
    with serving(app(fails="nl")) as url, refused("judge.unanswered", count=1):
        answered(url, tree)
    assert sorted(row["key"] for row in tree.rows) == ["n", "nr", "nrl", "nrll", "nrlr", "nrr", "nrrl", "nrrr"]


def test_a_request_has_its_own_length_and_may_ask_for_probabilities() -> None:
    bodies: list[dict] = []
    rows: list[Row] = []
    settings = EvaluateSettings(max_tokens=50, temperature=0.5, top_p=0.75)
    with serving(app(bodies=bodies)) as url:
        calls = EndpointCalls(Endpoint(url, "any", concurrency=1), settings)
        calls.answer([Request("a", "x"), Request("b", "y", max_tokens=3, logprobs=True)], 2, 0, rows.append, False)
    assert [body["max_tokens"] for body in bodies] == [50, 3]
    assert [body["top_p"] for body in bodies] == [0.75, 0.75]
    assert "logprobs" not in bodies[0]
    assert "logprobs" not in rows[0]
    assert (bodies[1]["logprobs"], bodies[1]["top_logprobs"]) == (True, 20)
    assert rows[1]["logprobs"] == {"1": -0.25, "-": -1.5}
    assert calls.made_by("grm", 50)["top_p"] == 0.75
    assert "top_p" not in EvaluateSettings().sampling()
