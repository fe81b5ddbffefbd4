"""A judge behind an OpenAI-compatible chat API: concurrent calls with retries and a timeout, failures counted."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.together import run_together
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.judges.base import judge_prompt, text_hash
from proxygrm.evaluate.judges.engine import blank_image, none_accepted
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.serving.chat.answer import DECLINED, FILTERED, REFUSED_BY_SERVICE
from proxygrm.serving.chat.client import ChatClient
from proxygrm.serving.chat.failures import ChatFailed
from proxygrm.serving.chat.request import ChatRequest, image_part_of_file

_MAX_FAILURES = 20
_MAX_FAILED_SHARE = 0.05


class Unanswered(UserError):
    """Some requests failed after all attempts; the others were answered."""

    code = "judge.unanswered"


@dataclass(frozen=True)
class Endpoint:
    """A URL and how it is called. The key is only referred to: by an environment variable, or by a file with mode
    0600."""

    url: str
    model: str
    concurrency: int = 32
    timeout_s: float = 300.0
    """Of one attempt, from sending to the last byte."""
    attempts: int = 5
    api_key_env: str = ""
    api_key_file: str = ""

    def key(self) -> str:
        if not self.api_key_env:
            return ""
        if key := os.environ.get(self.api_key_env, "").strip():
            return key
        raise UserError(
            f"the environment variable {self.api_key_env} is not set; export the endpoint's key in it",
            code="judge.no-key",
            name=self.api_key_env,
        )


class EndpointJudge:
    """Requests that fail after all attempts give no row, so the next run sends them again; they are counted and end the
    run with an error. A prompt that the service refuses (too long, say) is an answer with a problem, and so is one that
    the model declines; an answer without text has a `cause`."""

    def __init__(
        self, endpoint: Endpoint, settings: EvaluateSettings, prompt: Callable[[OrderedPair], str] | None = None
    ) -> None:
        self.prompt = prompt or judge_prompt
        if settings.max_pixels:
            raise UserError(
                "an endpoint scales images itself; leave --max-pixels out, or set it where the model is served",
                code="judge.max-pixels",
                max_pixels=settings.max_pixels,
            )
        self.endpoint, self.settings, self.name = endpoint, settings, f"{endpoint.model} at {endpoint.url}"
        self.made_by = {
            "model": endpoint.model,
            "prompt": prompt_hash("grm"),
            "max_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "seed": settings.seed,
            "missing_images": settings.missing_images,
        }

    def judge(self, requests: Sequence[OrderedPair], take: Callable[[Row], None], works: bool) -> None:
        with tempfile.TemporaryDirectory(prefix="blank-image-") as folder:
            blank = Path(folder) / "blank.png"
            blank_image().save(blank)
            asyncio.run(self._judge(requests, _Outcome(len(requests), take, works), blank))

    async def _judge(self, requests: Sequence[OrderedPair], outcome: _Outcome, blank: Path) -> None:
        endpoint = self.endpoint
        client = ChatClient(
            endpoint.url,
            endpoint.concurrency,
            endpoint.timeout_s,
            endpoint.api_key_file or None,
            endpoint.key(),
            role="judge",
        )
        async with client:
            await client.check_model(endpoint.model)
            pending = iter(requests)
            workers = min(endpoint.concurrency, len(requests))
            await run_together(self._work(client, pending, outcome, blank) for _ in range(workers))
        outcome.check(self.name)

    async def _work(self, client: ChatClient, pending: Iterator[OrderedPair], outcome: _Outcome, blank: Path) -> None:
        for request in pending:
            if outcome.hopeless:
                return
            started, seed = time.monotonic(), self.settings.seed_of(request.key)
            prompt = self.prompt(request)
            row = {"key": request.key, "text": "", "tokens": 0, "truncated": False, "problem": None, "cause": None}
            row |= {"seed": seed, "prompt_hash": text_hash(prompt)}
            try:
                body = await asyncio.to_thread(self._body, request, prompt, seed, blank)
                answer = await client.complete(body, self.endpoint.attempts)
            except (ChatFailed, OSError) as error:  # OSError: an image file deleted since the run started
                if isinstance(error, ChatFailed):
                    if error.reason != REFUSED_BY_SERVICE:
                        outcome.failed[error.reason] += 1
                        continue
                    row["cause"] = error.reason
                outcome.refusal = row["problem"] = " ".join(str(error).split())[:300]
                outcome.refused += 1
            else:
                row |= {"text": answer.text, "tokens": answer.tokens}
                row |= {"truncated": answer.truncated, "cause": answer.cause}
                if answer.cause in (DECLINED, FILTERED):
                    row["problem"] = f"{answer.cause}: {answer.refusal}" if answer.refusal else answer.cause
                outcome.accepted = True
            row["seconds"] = round(time.monotonic() - started, 4)
            outcome.add(row)

    def _body(self, request: OrderedPair, prompt: str, seed: int | None, blank: Path) -> bytes:
        use_blank = self.settings.missing_images == "blank"
        images = [blank if use_blank and not path.is_file() else path for path in request.pair.images]
        chat = ChatRequest.build(
            self.endpoint.model,
            prompt,
            max_tokens=self.settings.max_tokens,
            temperature=self.settings.temperature,
            extra={} if seed is None else {"seed": seed},
        )
        return chat.body([image_part_of_file(path) for path in images])


class _Outcome:
    """Results of the calls. Refusals are held back until the service has accepted a prompt: one that accepts none is
    broken."""

    def __init__(self, total: int, take: Callable[[Row], None], works: bool) -> None:
        self.total, self.take = total, take
        self.failed: Counter[str] = Counter()
        self.refused, self.refusal, self.accepted = 0, "", works
        self._held: list[Row] = []

    @property
    def hopeless(self) -> bool:
        return self.failed.total() > max(_MAX_FAILURES, _MAX_FAILED_SHARE * self.total)

    def add(self, row: Row) -> None:
        self._held.append(row)
        if self.accepted:
            for held in self._held:
                self.take(held)
            self._held = []

    def check(self, name: str) -> None:
        if self._held:
            raise none_accepted(name, self.refused, self.refusal)
        if self.failed:
            causes = ", ".join(f"{reason} {count:,}" for reason, count in self.failed.most_common())
            early = "; the run stopped early" if self.hopeless else ""
            raise Unanswered(
                f"{name}: {self.failed.total():,} of {self.total:,} judgements got no answer ({causes}){early}. The "
                "other answers are kept; fix the endpoint, and the same command requests the rest",
                judge=name,
                count=self.failed.total(),
                total=self.total,
                causes=dict(self.failed),
                early=self.hopeless,
            )
