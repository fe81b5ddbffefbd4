"""What a served model of each kind answers: one contract for the API, over the pool of the model's replicas.

No score and no verdict is ever made up: what a replica did not answer raises `NotJudged` with its cause.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from proxygrm.core.labels import Label
from proxygrm.process.checklist import Step
from proxygrm.reward_service.models import Kind
from proxygrm.serving.chat.answer import ChatAnswer, NotAChat, read_chat
from proxygrm.serving.pool.answer import AttemptFailed
from proxygrm.serving.pool.dispatch import Pool, Progress
from proxygrm.serving.pool.image import ImageInput, ImageRef
from proxygrm.serving.pool.request import PoolRequest
from proxygrm.serving.pool.routing import Cause

Answer = TypeVar("Answer")
Orders = Literal["both", "as-given"]
TIE, ORDERS_DISAGREE = "tie", "orders_disagree"


class NotJudged(Exception):
    """There is no answer, for this cause."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause, self.detail = cause, detail


class Refused(Exception):
    """The request cannot be answered as it is."""

    def __init__(self, status: int, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.cause, self.detail = status, cause, detail


@dataclass(frozen=True)
class Asked:
    """What responses are judged for."""

    question: str
    images: Sequence[ImageInput] = ()


def key_of(asked: Asked, images: Sequence[ImageRef]) -> bytes:
    """For the choice of a replica: all responses to a question share its images in the prefix cache."""
    return hashlib.sha256("\0".join((asked.question, *(image.name for image in images))).encode()).digest()


@dataclass(frozen=True)
class Scores:
    scores: Sequence[float]
    """One for each response."""
    how: str
    """What they are."""


@dataclass(frozen=True)
class Comparison:
    verdict: Label | None
    """The better response; None with a `reason`, which is a result and not a failure."""
    reason: str | None = None
    probability: float | None = None
    """That response 1 is better, from the scores."""
    critiques: Sequence[dict[str, Any]] = ()
    scores: Sequence[float] | None = None


@dataclass(frozen=True)
class StepScores:
    """Of a solution's steps."""

    raw: Sequence[float]
    """1 or -1, as judged."""
    final: Sequence[float | None]
    """Gated by the reliability."""
    reliability: float | None
    """How far what the steps claim to see agrees with the images; None where they claim nothing."""


def read_written(body: bytes) -> ChatAnswer:
    """What a model of vLLM wrote. Raises AttemptFailed for what is not a chat completion."""
    try:
        chat = read_chat(body)
    except NotAChat as error:
        raise AttemptFailed(Cause.GARBAGE, str(error)) from error
    if not (chat.text or chat.cause or chat.finish):
        raise AttemptFailed(Cause.GARBAGE, "a message without text that has no finish_reason")
    return chat


async def all_of(calls: Iterable[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """Their results, in their order. The first that fails cancels the others."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class CountedPool(Pool):
    """A pool whose calls are counted, and end with an answer or with NotJudged."""

    async def answer(
        self,
        images: Sequence[ImageInput],
        key: Callable[[Sequence[ImageRef]], bytes],
        build: Callable[[Sequence[ImageRef]], PoolRequest[Answer]],
        cause_of: Callable[[Answer], tuple[Cause, str] | None] = lambda answer: None,
    ) -> Answer:
        """A counted call of the pool. cause_of: of an answer that is not a judgement, why not. Raises NotJudged."""
        started = time.monotonic()
        progress = Progress()
        failure: tuple[Cause, str] | None
        try:
            answer = await self.call(images, key, build, progress)
            failure = cause_of(answer)
        except AttemptFailed as failed:
            failure = failed.cause, failed.detail
        seconds = time.monotonic() - started
        self.tally.ended(failure is None, None, failure[0] if failure else None, seconds)
        if failure is not None:
            cause, detail = failure
            after = f"no answer after {seconds:.1f} s and {1 + progress.retries} attempts"
            raise NotJudged(cause, f"{after}: {detail}" if detail else after)
        return answer


class RewardModel(CountedPool):
    """One served model."""

    kind: ClassVar[Kind]
    fewest: ClassVar[int]
    """Responses of a `score`."""
    most: ClassVar[int]

    @property
    def helpers(self) -> Mapping[str, CountedPool]:
        """Other models that it asks, by what they do."""
        return {}

    @abstractmethod
    async def score(self, asked: Asked, responses: Sequence[str]) -> Scores:
        """Raises NotJudged."""

    @abstractmethod
    async def compare(self, asked: Asked, response_1: str, response_2: str, orders: Orders) -> Comparison:
        """Raises NotJudged."""

    async def steps(self, asked: Asked, steps: Sequence[Step]) -> StepScores:
        """Raises NotJudged, and Refused by models that judge whole responses."""
        raise Refused(422, "bad_request", f"a {self.kind} model does not judge steps; a process model does")
