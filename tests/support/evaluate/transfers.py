"""Pairs, a reward model's judgements of them, and a judge over real HTTP with a known rule."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

from fastapi import FastAPI, HTTPException, Request

from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.settings import EvaluateSettings
from support.evaluate.http_judges import serving

SETTINGS = EvaluateSettings(missing_images="blank")


def pairs(count=12, categories=("colour",), subjects=None):
    return [
        EvalPair(
            id=f"p{at}",
            question=f"What <image> is \n'{at % (subjects or count)}' 猫?",
            response_1=f"one {at}",
            response_2=f"two {at}",
            label=1 + at % 2,
            category=categories[at % len(categories)],
        )
        for at in range(count)
    ]


def critique(rubric, verdict=1):
    return f"<rubric>{rubric} (100%)<justify>SECRET why</justify></rubric><eval>SECRET</eval><answer>{verdict}</answer>"


def rows(eval_pairs, text=lambda s: critique(f"Names {s.pair.id} {s.order}")):
    answer = {"tokens": 1, "truncated": False, "problem": None}
    return [judged_row(s, answer | {"text": text(s)}) for s in ordered_pairs(eval_pairs)]


class Reader:
    """Answers 1 or 2 by a simple rule: without a rubric always 1; with the pair's own it is right."""

    def __init__(self, truth):
        self.truth, self.prompts, self.fail_after = truth, Counter(), None
        self.app = FastAPI()
        self.app.get("/v1/models")(lambda: {"data": [{"id": "reader"}]})
        self.app.post("/v1/chat/completions")(self.complete)

    async def complete(self, request: Request):
        text = (await request.json())["messages"][0]["content"][-1]["text"]
        if self.fail_after is not None and sum(self.prompts.values()) >= self.fail_after:
            raise HTTPException(403)
        self.prompts[text] += 1
        answer = "<think>x</think><answer>1</answer>"
        for first, (name, label) in self.truth.items():
            if f"Response 1: {first}\n" in text and f"Names {name} " in text:
                answer = f"<think>x</think><answer>{label}</answer>"
        if "Names p1 " in text:
            answer = "the first one"
        return {"choices": [{"message": {"content": answer}, "finish_reason": "stop"}], "usage": {}}


@contextmanager
def reading(eval_pairs):
    truth = {s.responses[0]: (s.pair.id, s.label) for s in ordered_pairs(eval_pairs)}
    reader = Reader(truth)
    with serving(reader.app) as url:
        yield reader, Endpoint(url, "reader", concurrency=2, attempts=1)
