"""A scalar reward model: a score for each response, from the replicas of `proxygrm.scalar.replica`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from math import exp, isfinite

from proxygrm.reward_service.judges import TIE, Asked, Comparison, Orders, RewardModel, Scores, key_of
from proxygrm.scalar.replica import PATH
from proxygrm.serving.chat.request import ChatRequest
from proxygrm.serving.pool.answer import AttemptFailed
from proxygrm.serving.pool.image import ImageRef
from proxygrm.serving.pool.request import PoolRequest
from proxygrm.serving.pool.routing import Cause

HOW = "scalar"


class ScalarModel(RewardModel):
    """All responses of a request are in one call: images and question are computed once for them."""

    kind, fewest, most = "scalar", 1, 64

    async def score(self, asked: Asked, responses: Sequence[str]) -> Scores:
        scores = await self.answer(asked.images, partial(key_of, asked), partial(request_of, asked, responses))
        return Scores(scores, HOW)

    async def compare(self, asked: Asked, response_1: str, response_2: str, orders: Orders) -> Comparison:
        """A score does not depend on the order."""
        one, two = (await self.score(asked, (response_1, response_2))).scores
        probability = _sigmoid(one - two)
        if one == two:
            return Comparison(None, TIE, probability, scores=(one, two))
        return Comparison(1 if one > two else 2, None, probability, scores=(one, two))


def request_of(asked: Asked, responses: Sequence[str], images: Sequence[ImageRef]) -> PoolRequest[tuple[float, ...]]:
    head = json.dumps({"responses": responses}).encode()[:-1] + b',"messages":[{"role":"user","content":['
    tail = json.dumps({"type": "text", "text": asked.question}).encode() + b"]}]}"
    return PoolRequest(ChatRequest(head, tail), tuple(images), partial(_read, len(responses)), PATH)


def _read(count: int, body: bytes) -> tuple[float, ...]:
    """Raises AttemptFailed for anything but so many finite numbers."""
    try:
        scores = json.loads(body)["scores"]
        if not all(type(score) in (float, int) and isfinite(score) for score in scores):
            raise ValueError("a score that is not a finite number")
        if len(scores) != count:
            raise ValueError(f"{len(scores)} scores for {count} responses")
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise AttemptFailed(Cause.GARBAGE, f"not an answer with scores: {error}") from error
    return tuple(map(float, scores))


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))
