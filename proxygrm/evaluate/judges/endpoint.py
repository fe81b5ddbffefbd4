"""A judge behind an OpenAI-compatible chat API: concurrent calls with retries and a timeout, failures counted."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.together import run_together
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.judges.base import judge_prompt, text_hash
from proxygrm.evaluate.judges.engine import Request, Requests, blank_image, none_accepted
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.serving.access.key_file import read_key
from proxygrm.serving.chat.answer import DECLINED, FILTERED, REFUSED_BY_SERVICE
from proxygrm.serving.chat.client import ChatClient
from proxygrm.serving.chat.failures import ChatFailed
from proxygrm.serving.chat.request import ChatRequest, image_part_of_file
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.verdict import TOP_LOGPROBS, first_token_logprobs

_MAX_FAILURES = 20
_MAX_FAILED_SHARE = 0.05
_END = object()


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

    def pool(self) -> Endpoints:
        """As the one server of a pool; `timeout_s` is then of a call with all its attempts."""
        key = read_key(Path(self.api_key_file)) if self.api_key_file else self.key()
        server = Endpoints.of_urls([self.url], self.model, None, 0, self.concurrency, key)
        return replace(server, call_timeout_s=self.timeout_s)


class EndpointCalls:
    """Requests that fail after all attempts give no row, so the next run sends them again; they are counted and end the
    run with an error. A prompt that the service refuses (too long, say) is an answer with a problem, and so is one that
    the model declines; an answer without text has a `cause`."""

    def __init__(self, endpoint: Endpoint, settings: EvaluateSettings) -> None:
        if settings.max_pixels:
            raise UserError(
                "an endpoint scales images itself; leave --max-pixels out, or set it where the model is served",
                code="judge.max-pixels",
                max_pixels=settings.max_pixels,
            )
        self.endpoint, self.settings, self.name = endpoint, settings, f"{endpoint.model} at {endpoint.url}"

    def made_by(self, prompt: str, max_tokens: int) -> Row:
        """Not the URL: the same model may be served elsewhere when the run is resumed."""
        return {
            "model": self.endpoint.model,
            "prompt": prompt_hash(prompt),
            "max_tokens": max_tokens,
            **self.settings.sampling(),
            "missing_images": self.settings.missing_images,
        }

    def answer(self, requests: Requests, total: int, max_images: int, take: Callable[[Row], None], works: bool) -> None:
        with tempfile.TemporaryDirectory(prefix="blank-image-") as folder:
            blank = Path(folder) / "blank.png"
            blank_image().save(blank)
            asyncio.run(self._answer(iter(requests), _Outcome(total, take, works), blank))

    async def _answer(self, pending: Iterator[Request | None], outcome: _Outcome, blank: Path) -> None:
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
            workers = min(endpoint.concurrency, outcome.total)
            await run_together(self._work(client, pending, outcome, blank) for _ in range(workers))
        outcome.check(self.name)

    async def _work(
        self, client: ChatClient, pending: Iterator[Request | None], outcome: _Outcome, blank: Path
    ) -> None:
        while not outcome.hopeless:
            request = next(pending, _END)
            if request is _END or (request is None and not outcome.running):
                return
            if isinstance(request, Request):
                with outcome.one():
                    await self._call(client, request, outcome, blank)
            else:
                await outcome.arrived.wait()

    async def _call(self, client: ChatClient, request: Request, outcome: _Outcome, blank: Path) -> None:
        started, seed = time.monotonic(), self.settings.seed_of(request.key)
        row: Row = {"key": request.key, "text": "", "tokens": 0, "truncated": False, "problem": None, "cause": None}
        row |= {"seed": seed, "prompt_hash": text_hash(request.text)}
        try:
            body = await asyncio.to_thread(self._body, request, seed, blank)
            answer = await client.complete(body, self.endpoint.attempts)
        except (ChatFailed, OSError) as error:  # OSError: an image file deleted since the run started
            if isinstance(error, ChatFailed):
                if error.reason != REFUSED_BY_SERVICE:
                    outcome.failed[error.reason] += 1
                    return
                row["cause"] = error.reason
            outcome.refusal = row["problem"] = " ".join(str(error).split())[:300]
            outcome.refused += 1
        else:
            row |= {"text": answer.text, "tokens": answer.tokens}
            row |= {"truncated": answer.truncated, "cause": answer.cause}
            if answer.cause in (DECLINED, FILTERED):
                row["problem"] = f"{answer.cause}: {answer.refusal}" if answer.refusal else answer.cause
            if request.logprobs:
                row["logprobs"] = first_token_logprobs(answer.choice)
            outcome.accepted = True
        row["seconds"] = round(time.monotonic() - started, 4)
        outcome.add(row)

    def _body(self, request: Request, seed: int | None, blank: Path) -> bytes:
        use_blank = self.settings.missing_images == "blank"
        images = [blank if use_blank and not path.is_file() else path for path in request.images]
        extra: dict[str, Any] = {} if seed is None else {"seed": seed}
        if self.settings.top_p != 1:
            extra["top_p"] = self.settings.top_p
        if request.logprobs:
            extra |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        chat = ChatRequest.build(
            self.endpoint.model,
            request.text,
            max_tokens=request.max_tokens or self.settings.max_tokens,
            temperature=self.settings.temperature,
            extra=extra,
        )
        return chat.body([_part(path) for path in images])


def _part(path: Path) -> bytes:
    info = path.stat()
    return _encoded(path, info.st_size, info.st_mtime_ns)


@lru_cache(maxsize=32)  # all steps of a solution show the same images
def _encoded(path: Path, size: int, changed: int) -> bytes:
    return image_part_of_file(path)


class EndpointJudge:
    """A judge of pairs behind an endpoint, see `EndpointCalls`."""

    def __init__(
        self, endpoint: Endpoint, settings: EvaluateSettings, prompt: Callable[[OrderedPair], str] | None = None
    ) -> None:
        self.prompt = prompt or judge_prompt
        self.calls = EndpointCalls(endpoint, settings)
        self.name = self.calls.name
        self.made_by = self.calls.made_by("grm", settings.max_tokens)

    def judge(self, requests: Sequence[OrderedPair], take: Callable[[Row], None], works: bool) -> None:
        own = (Request(r.key, self.prompt(r), r.pair.images) for r in requests)
        self.calls.answer(own, len(requests), 0, take, works)


class _Outcome:
    """Results of the calls. Refusals are held back until the service has accepted a prompt: one that accepts none is
    broken."""

    def __init__(self, total: int, take: Callable[[Row], None], works: bool) -> None:
        self.total, self.take = total, take
        self.failed: Counter[str] = Counter()
        self.refused, self.refusal, self.accepted = 0, "", works
        self.running = 0
        self.arrived = asyncio.Event()
        """Set, and replaced, when a call ends: what waited for its answer may be ready."""
        self._held: list[Row] = []

    @property
    def hopeless(self) -> bool:
        return self.failed.total() > max(_MAX_FAILURES, _MAX_FAILED_SHARE * self.total)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around one call."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self.arrived.set()
            self.arrived = asyncio.Event()

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
