"""A generative reward model: critiques of ordered pairs, from replicas of vLLM."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

from proxygrm.core.labels import Label
from proxygrm.critique import contract as critique_contract
from proxygrm.critique import think_answer
from proxygrm.critique.contracts import KINDS, PROXY_GRM, R1, Contract
from proxygrm.critique.thought import after_thought
from proxygrm.reward_service.judges import (
    ORDERS_DISAGREE,
    Asked,
    Comparison,
    Orders,
    RewardModel,
    Scores,
    all_of,
    read_written,
)
from proxygrm.serving.chat.request import ChatRequest
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.image import ImageRef
from proxygrm.serving.pool.request import PoolRequest
from proxygrm.serving.pool.routing import Cause

HOW = "share-of-wins"


@dataclass(frozen=True)
class Critique:
    """What the model wrote about an ordered pair. verdict: of the responses as it was shown them."""

    text: str
    verdict: Label | None
    rubric: str | None = None
    justification: str | None = None
    evaluation: str | None = None
    problem: str = ""
    """Why there is no verdict; "" for nothing."""
    truncated: bool = False


def _parts_of_critique(text: str) -> dict[str, str | None]:
    read = critique_contract.parse(text)
    return {"rubric": read.rubric, "justification": read.justification, "evaluation": read.evaluation}


_PARTS: Mapping[Contract, Callable[[str], dict[str, str | None]]] = {
    PROXY_GRM: _parts_of_critique,
    R1: lambda text: {"evaluation": think_answer.parse(text).reasoning},
}
"""What people read of an answer, beside its verdict."""


class GenerativeModel(RewardModel):
    """A score is the share of a response's comparisons that it wins, over all ordered pairs: each two responses are
    compared in both orders, so that a preference for a place counts for neither."""

    kind, fewest, most = "generative", 2, 16

    def __init__(self, endpoints: Endpoints, timeout_s: float | None = None, contract: Contract = PROXY_GRM) -> None:
        super().__init__(endpoints, timeout_s)
        self._kind, self._parts = KINDS[contract], _PARTS[contract]

    async def score(self, asked: Asked, responses: Sequence[str]) -> Scores:
        pairs = list(permutations(range(len(responses)), 2))
        critiques = await all_of(self._critique(asked, responses[one], responses[two]) for one, two in pairs)
        wins = [0] * len(responses)
        for (one, two), critique in zip(pairs, critiques, strict=True):
            wins[one if critique.verdict == 1 else two] += 1
        return Scores([won / (2 * (len(responses) - 1)) for won in wins], HOW)

    async def compare(self, asked: Asked, response_1: str, response_2: str, orders: Orders) -> Comparison:
        calls = [self._critique(asked, response_1, response_2)]
        if orders == "both":
            calls.append(self._critique(asked, response_2, response_1))
        critiques = await all_of(calls)
        shown = [_shown(critique, swapped=number == 1) for number, critique in enumerate(critiques)]
        verdicts = {each["verdict"] for each in shown}
        verdict = verdicts.pop() if len(verdicts) == 1 else None
        return Comparison(verdict, None if verdict else ORDERS_DISAGREE, critiques=shown)

    async def _critique(self, asked: Asked, first: str, second: str) -> Critique:
        """With a verdict. Raises NotJudged."""
        return await self.answer(
            asked.images, partial(_key, asked, first), partial(self._request, asked, first, second), _failure
        )

    def _request(self, asked: Asked, first: str, second: str, images: Sequence[ImageRef]) -> PoolRequest[Critique]:
        prompt = self._kind.ask(asked.question, first, second, images=0)
        chat = ChatRequest.build(self.endpoints.model, prompt, max_tokens=self.endpoints.max_tokens)
        return PoolRequest(chat, tuple(images), self._read_answer)

    def _read_answer(self, body: bytes) -> Critique:
        chat = read_written(body)
        text = after_thought(chat.text, chat.truncated)
        read = self._kind.read(text)
        return Critique(
            chat.text, read.verdict, problem=read.reason or "", truncated=chat.truncated, **self._parts(text)
        )


def _key(asked: Asked, first: str, images: Sequence[ImageRef]) -> bytes:
    """All that precedes the second response: what a response's comparisons share in the prefix cache."""
    return hashlib.sha256("\0".join((asked.question, first, *(image.name for image in images))).encode()).digest()


def _failure(critique: Critique) -> tuple[Cause, str] | None:
    if critique.verdict is not None:
        return None
    return Cause.CUT_OFF if critique.truncated else Cause.UNPARSED, f"no verdict in the critique: {critique.problem}"


def _shown(critique: Critique, swapped: bool) -> dict[str, Any]:
    """For the caller, in whose numbering the verdict is."""
    verdict = 3 - (critique.verdict or 0) if swapped else critique.verdict
    return {
        "order": "swapped" if swapped else "as-given",
        "verdict": verdict,
        "rubric": critique.rubric,
        "justification": critique.justification,
        "evaluation": critique.evaluation,
        "text": critique.text,
    }
