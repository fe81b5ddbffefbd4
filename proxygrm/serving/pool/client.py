"""Asks the proxy which response a rubric prefers.

A lost answer is not a zero: whatever fails, `judge` retries on another replica until its deadline (`pool.dispatch`) and
then names the cause for which there is no verdict. It raises for programming errors only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.answer import AttemptFailed, ProxyAnswer, ProxyJudgement
from proxygrm.serving.pool.dispatch import Pool, Progress
from proxygrm.serving.pool.image import ImageInput
from proxygrm.serving.pool.request import proxy_request
from proxygrm.serving.pool.routing import Cause, prompt_key
from proxygrm.serving.settings import Mode


class ProxyClient(Pool):
    """max_tokens, mode: None takes the endpoints' value."""

    def __init__(
        self,
        endpoints: Endpoints | Path | str,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
        max_in_flight_per_replica: int | None = None,
        hedge: bool = True,
        mode: Mode | None = None,
    ) -> None:
        super().__init__(endpoints, timeout_s, max_in_flight_per_replica, hedge)
        self.max_tokens = max_tokens or self.endpoints.max_tokens
        self.mode: Mode = mode or self.endpoints.mode

    async def judge(
        self,
        question: str,
        response_1: str,
        response_2: str,
        rubric: str | None,
        images: ImageInput | Sequence[ImageInput] = (),
        label: int | None = None,
    ) -> ProxyJudgement:
        """The proxy's verdict on a pair by a rubric alone.

        rubric: the closed rubric of `critique.rubric_for_proxy`; None or blank is never sent (cause no_rubric).
        images: the image or images of the pair in order, as bytes or paths. label: 1 or 2, to fill `agrees`.
        """
        started = time.monotonic()
        progress = Progress()
        images = [images] if isinstance(images, bytes | str | Path) else images
        try:
            answer = await self._answer((question, response_1, response_2, rubric or ""), images, progress)
        except AttemptFailed as failure:
            answer = ProxyAnswer("", None, failure.cause)
        agrees = None if answer.verdict is None or label is None else answer.verdict == label
        latency_s = time.monotonic() - started
        self.tally.ended(answer.verdict is not None, agrees, answer.cause, latency_s)
        return ProxyJudgement(
            verdict=answer.verdict,
            agrees=agrees,
            cause=answer.cause,
            latency_s=latency_s,
            replica=progress.replica,
            retries=progress.retries,
            text=answer.text,
            hedged=progress.hedged,
            soft=answer.soft,
        )

    async def _answer(
        self, texts: tuple[str, str, str, str], images: Sequence[ImageInput], progress: Progress
    ) -> ProxyAnswer:
        *pair, rubric = texts
        if not rubric.strip():
            raise AttemptFailed(Cause.NO_RUBRIC)
        if not all(pair):
            raise AttemptFailed(Cause.MISSING_FIELD)
        return await self.call(
            images,
            lambda refs: prompt_key(*texts[:3], [ref.name.encode() for ref in refs]),
            lambda refs: proxy_request(self.endpoints, self.max_tokens, texts, refs, self.mode),
            progress,
        )
