"""A judge behind an OpenAI-compatible chat API: many calls at once, retried, each with a deadline, failures counted."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.together import run_together
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.judges.base import judge_prompt, text_hash
from proxygrm.evaluate.judges.engine import blank_picture
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.rows.shown import Shown
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.serving.chat_answer import DECLINED, FILTERED, REFUSED_BY_SERVICE
from proxygrm.serving.chat_client import RowFailed, chat_body, check_model, complete, open_client

_FEW_FAILURES = 20
_FAILED_SHARE = 0.05


class Unanswered(UserError):
    """Some judgements got no answer, the others did."""


@dataclass(frozen=True)
class Endpoint:
    """Where, and how it is asked. The key is only named: by a variable, or by a file with mode 0600."""

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
        if found := os.environ.get(self.api_key_env, "").strip():
            return found
        raise UserError(f"the environment variable {self.api_key_env} is not set; export the endpoint's key in it")


class EndpointJudge:
    """Rows that got no answer after all attempts are not taken, so running again asks for them again; they are counted
    and end the run with an error. A prompt the service refuses (too long, say) is an answer with a problem, and so is
    one that the model declines; an answer without text has a `cause`."""

    def __init__(
        self, endpoint: Endpoint, settings: EvaluateSettings, prompt: Callable[[Shown], str] | None = None
    ) -> None:
        self.prompt = prompt or judge_prompt
        if settings.max_pixels:
            raise UserError("an endpoint scales pictures itself; leave --max-pixels out, or set it where it is served")
        self.endpoint, self.settings, self.name = endpoint, settings, f"{endpoint.model} at {endpoint.url}"
        self.made_by = {
            "model": endpoint.model,
            "prompt": prompt_hash("grm"),
            "max_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "seed": settings.seed,
            "missing_images": settings.missing_images,
        }

    def judge(self, shown: Sequence[Shown], take: Callable[[Row], None], works: bool) -> None:
        with tempfile.TemporaryDirectory(prefix="blank-picture-") as folder:
            blank = Path(folder) / "blank.png"
            blank_picture().save(blank)
            asyncio.run(self._judge(shown, _Work(len(shown), take, works), blank))

    async def _judge(self, shown: Sequence[Shown], work: _Work, blank: Path) -> None:
        where = self.endpoint
        client = open_client(
            where.url, where.concurrency, where.timeout_s, where.api_key_file or None, where.key(), who="judge"
        )
        async with client:
            await check_model(client, where.model, who="judge")
            waiting = iter(shown)
            askers = min(where.concurrency, len(shown))
            await run_together(self._ask(client, waiting, work, blank) for _ in range(askers))
        work.check(self.name)

    async def _ask(self, client: httpx.AsyncClient, waiting: Iterator[Shown], work: _Work, blank: Path) -> None:
        for shown in waiting:
            if work.hopeless:
                return
            started, seed = time.monotonic(), self.settings.seed_of(shown.key)
            prompt = self.prompt(shown)
            row = {"key": shown.key, "text": "", "tokens": 0, "truncated": False, "problem": None, "cause": None}
            row |= {"seed": seed, "prompt_hash": text_hash(prompt)}
            try:
                body = await asyncio.to_thread(self._body, shown, prompt, seed, blank)
                answer = await complete(client, body, self.endpoint.attempts)
            except (RowFailed, OSError) as failure:  # OSError: a picture that went away since the run began
                if isinstance(failure, RowFailed):
                    if failure.reason != REFUSED_BY_SERVICE:
                        work.failed[failure.reason] += 1
                        continue
                    row["cause"] = failure.reason
                work.refusal = row["problem"] = " ".join(str(failure).split())[:300]
                work.refused += 1
            else:
                row |= {"text": answer.text, "tokens": answer.tokens}
                row |= {"truncated": answer.truncated, "cause": answer.cause}
                if answer.cause in (DECLINED, FILTERED):
                    row["problem"] = f"{answer.cause}: {answer.words}" if answer.words else answer.cause
                work.accepted = True
            row["seconds"] = round(time.monotonic() - started, 4)
            work.add(row)

    def _body(self, shown: Shown, prompt: str, seed: int | None, blank: Path) -> Row:
        may = self.settings.missing_images == "blank"
        images = [blank if may and not path.is_file() else path for path in shown.pair.images]
        body = chat_body(self.endpoint.model, prompt, images, self.settings.temperature, self.settings.max_tokens)
        return body if seed is None else body | {"seed": seed}


class _Work:
    """What came of the calls. Refusals wait until the service has taken some prompt: one that takes none is broken."""

    def __init__(self, total: int, take: Callable[[Row], None], works: bool) -> None:
        self.total, self.take = total, take
        self.failed: Counter[str] = Counter()
        self.refused, self.refusal, self.accepted = 0, "", works
        self._held: list[Row] = []

    @property
    def hopeless(self) -> bool:
        return self.failed.total() > max(_FEW_FAILURES, _FAILED_SHARE * self.total)

    def add(self, row: Row) -> None:
        self._held.append(row)
        if self.accepted:
            for held in self._held:
                self.take(held)
            self._held = []

    def check(self, name: str) -> None:
        if self._held:
            raise UserError(f"{name} takes none of the {self.refused} prompts: {self.refusal}")
        if self.failed:
            causes = ", ".join(f"{reason} {count:,}" for reason, count in self.failed.most_common())
            early = "; it was given up early" if self.hopeless else ""
            raise Unanswered(
                f"{name}: {self.failed.total():,} of {self.total:,} judgements got no answer ({causes}){early}. What "
                "came is kept; mend the endpoint, and the same command asks for the rest"
            )
