"""Asks the proxy which response a rubric prefers: one pooled client for many concurrent calls.

A lost answer is not a zero: whatever goes wrong, `judge` retries on another replica until its deadline and then
says why there is no verdict. It raises for programming errors only.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from proxygrm.critique import Label, parse_proxy_verdict
from proxygrm.prompts import proxy_prompt
from proxygrm.proxy.endpoints import Endpoints
from proxygrm.proxy.picture import data_url, picture_bytes
from proxygrm.proxy.routing import Cause, back_off_s, choose, gives_up, preference, prompt_key
from proxygrm.proxy.tally import Tally

Picture = bytes | Path | str
COOL_DOWN_S = 5.0
"""For how long other calls go elsewhere first after a replica has failed one."""
ATTEMPT_SHARE = 0.5
"""Of a call's time for one attempt, so that a replica that hangs leaves time for another."""
KEEP_ALIVE_S = 3.0
"""vLLM drops idle connections after 5 s; dropping them first saves a failed attempt."""


@dataclass(frozen=True)
class ProxyJudgement:
    """verdict: 1 or 2, None with a `cause`. agrees: verdict == label, None when there is no verdict or no label.
    replica: URL of the last one asked. retries: attempts after the first. text: what the proxy wrote, also when it
    could not be parsed."""

    verdict: Label | None
    agrees: bool | None
    cause: Cause | None
    latency_s: float
    replica: str | None = None
    retries: int = 0
    text: str = ""


class _Failed(Exception):
    def __init__(self, cause: Cause, status: int | None = None) -> None:
        self.cause, self.status = cause, status


@dataclass
class _Attempt:
    """The latest attempt of a call, for the judgement that a deadline cuts short."""

    replica: str | None = None
    cause: Cause = Cause.TIMEOUT
    retries: int = 0


_NONE = _Attempt()


class _Loop:
    """Connections and load of one event loop; aiohttp's sessions cannot be shared between loops."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.in_flight: Counter[str] = Counter()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._picky = 0

    async def room(self, picky: bool) -> None:
        """Wait until a request may have ended somewhere. picky: the caller will not take just any replica."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._picky += picky
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come: hand it on
                self._call_next()
            raise
        finally:
            self._picky -= picky

    def give_back(self, replica: str) -> None:
        """Not a coroutine, so that a cancelled call gives its place back too."""
        self.in_flight[replica] -= 1
        self._call_next()

    def _call_next(self) -> None:
        # One place, one call; but a picky one may leave the place unused, then somebody else must know of it.
        everybody = self._picky > 0
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                if not everybody:
                    return


class ProxyClient:
    """Usable from several event loops and threads; close it in each loop with `aclose`.

    max_tokens, timeout_s, max_in_flight_per_replica: None takes what the endpoints file says. timeout_s is the
    deadline of a whole call: waiting for room, all attempts and pauses.
    """

    def __init__(
        self,
        endpoints_file: Path | str,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
        max_in_flight_per_replica: int | None = None,
    ) -> None:
        self.endpoints = Endpoints.read(endpoints_file)
        self.max_tokens = max_tokens or self.endpoints.max_tokens
        self.timeout_s = timeout_s or self.endpoints.call_timeout_s
        self.limit = max_in_flight_per_replica or self.endpoints.max_num_seqs
        self.tally = Tally()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._cool_until: dict[str, float] = {}

    async def judge(
        self,
        question: str,
        response_1: str,
        response_2: str,
        rubric: str | None,
        images: Picture | Sequence[Picture] = (),
        label: int | None = None,
    ) -> ProxyJudgement:
        """The proxy's verdict on a pair by a rubric alone.

        rubric: the closed rubric of `critique.rubric_for_proxy`; None or blank is never sent (cause no_rubric).
        images: the picture or pictures of the pair in order, as bytes or paths. label: 1 or 2, to fill `agrees`.
        """
        started = time.monotonic()
        pictures = [images] if isinstance(images, bytes | str | Path) else images
        judgement = await self._judge(question, response_1, response_2, rubric, pictures, label, started)
        self.tally.ended(judgement.verdict, judgement.agrees, judgement.cause, judgement.latency_s)
        return judgement

    def snapshot(self) -> dict[str, Any]:
        """Counters since the start: see `Tally.snapshot`."""
        return self.tally.snapshot()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        state = self._loops.pop(asyncio.get_running_loop(), None)
        if state is not None:
            await state.session.close()

    async def _judge(
        self,
        question: str,
        response_1: str,
        response_2: str,
        rubric: str | None,
        images: Sequence[Picture],
        label: int | None,
        started: float,
    ) -> ProxyJudgement:
        def nothing(cause: Cause, last: _Attempt = _NONE, text: str = "") -> ProxyJudgement:
            return ProxyJudgement(None, None, cause, time.monotonic() - started, last.replica, last.retries, text)

        if not rubric or not rubric.strip():
            return nothing(Cause.NO_RUBRIC)
        if not (question and response_1 and response_2):
            return nothing(Cause.MISSING_FIELD)
        try:
            pictures = [picture_bytes(image) for image in images]
        except (OSError, ValueError):
            return nothing(Cause.MISSING_FIELD)
        order = preference(prompt_key(question, response_1, response_2, pictures), self.endpoints.replicas)
        # Pictures, then text, rubric last: the layout of training, and the shared part first for the KV cache.
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in pictures
        ]
        content.append({"type": "text", "text": proxy_prompt(question, response_1, response_2, rubric, images=0)})
        body = json.dumps(
            {
                "model": self.endpoints.model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
                "max_tokens": self.max_tokens,
            }
        ).encode()
        last = _Attempt()
        try:
            async with asyncio.timeout(self.timeout_s):
                text = await self._ask(body, order, last)
        except TimeoutError:
            return nothing(last.cause, last)
        except _Failed as failure:
            return nothing(failure.cause, last)
        verdict = parse_proxy_verdict(text)
        if verdict is None:
            return nothing(Cause.UNPARSED, last, text)
        agrees = None if label is None else verdict == label
        return ProxyJudgement(verdict, agrees, None, time.monotonic() - started, last.replica, last.retries, text)

    async def _ask(self, body: bytes, order: Sequence[str], last: _Attempt) -> str:
        """The proxy's text, from whichever replica gives one; `last` keeps the latest replica and cause."""
        state = self._state()
        failed_on: set[str] = set()
        failures = answered = 0
        while True:
            replica = await self._take(state, order, failed_on)
            last.replica, last.cause = replica, Cause.TIMEOUT
            try:
                return await self._post(state, replica, body)
            except _Failed as failure:
                failures += 1
                answered += failure.cause is not Cause.CONNECTION
                last.cause = failure.cause
                if gives_up(failure.cause, failure.status, answered):
                    raise
                self._cool_until[replica] = time.monotonic() + COOL_DOWN_S
            finally:
                state.give_back(replica)
            failed_on.add(replica)
            if failed_on.issuperset(order):  # each had its turn: a pause, then all of them again
                failed_on = set()
                await asyncio.sleep(back_off_s(failures))
            last.retries += 1
            self.tally.retry()

    async def _take(self, state: _Loop, order: Sequence[str], failed_on: set[str]) -> str:
        """Wait for a replica with room and count the request as in flight there."""
        while True:
            now = time.monotonic()
            avoid = failed_on or {replica for replica in order if self._cool_until.get(replica, 0) > now}
            replica = choose(order, state.in_flight, self.limit, avoid)
            if replica is not None:
                state.in_flight[replica] += 1
                if replica != order[0]:
                    self.tally.spill()
                return replica
            await state.room(picky=bool(avoid))

    async def _post(self, state: _Loop, replica: str, body: bytes) -> str:
        import aiohttp

        try:
            async with (
                asyncio.timeout(self.timeout_s * ATTEMPT_SHARE),
                state.session.post(f"{replica}/v1/chat/completions", data=body) as response,
            ):
                status, answer = response.status, await response.read()
        except aiohttp.ServerTimeoutError as error:  # also a TimeoutError: nobody accepted the connection
            raise _Failed(Cause.CONNECTION) from error
        except TimeoutError:
            raise _Failed(Cause.TIMEOUT) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Failed(Cause.CONNECTION) from error
        if status != 200:
            raise _Failed(Cause.HTTP_ERROR, status)
        try:
            text = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise _Failed(Cause.MISSING_FIELD) from error
        return text if isinstance(text, str) else ""

    def _state(self) -> _Loop:
        import aiohttp

        loop = asyncio.get_running_loop()
        with self._lock:
            state = self._loops.get(loop)
            if state is None:
                session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                    headers={"Authorization": f"Bearer {self.endpoints.api_key}", "Content-Type": "application/json"},
                    trust_env=False,  # a site's HTTP proxy has no business between two nodes of one job
                )
                state = self._loops[loop] = _Loop(session)
            return state
