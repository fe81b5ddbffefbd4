"""Asks the proxy which response a rubric prefers: one pooled client for many concurrent calls.

A lost answer is not a zero: whatever goes wrong, `judge` retries on another replica until its deadline and then
says why there is no verdict. It raises for programming errors only.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from proxygrm.core.labels import Label
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.balancer import Balancer, Place
from proxygrm.serving.pool.hedging import LOOK_AGAIN_S, Hedging
from proxygrm.serving.pool.picture import Picture, Shown, identify
from proxygrm.serving.pool.routing import Cause, Route, back_off_s, gives_up, preference, prompt_key
from proxygrm.serving.pool.tally import Tally
from proxygrm.serving.pool.wire import Answer, Chat, Failed, Wire
from proxygrm.serving.settings import Mode

ATTEMPT_SHARE = 0.5
"""Of a call's time for one attempt, so that a replica that hangs leaves time for another."""
IN_WAIT = 16
"""One request for so many of a replica's sequences stands ready in its queue, so that no slot waits for the network."""
_TROUBLE = frozenset({Cause.TIMEOUT, Cause.HTTP_ERROR, Cause.CONNECTION, Cause.UNPROVEN, Cause.GARBAGE})
"""Causes that speak against the replica and not against the request."""


@dataclass(frozen=True)
class ProxyJudgement:
    """verdict: 1 or 2, None with a `cause`. agrees: verdict == label, None when there is no verdict or no label.
    replica: URL of the one that answered, or of the last one asked. retries: attempts after the first. text: what the
    proxy wrote, also when it could not be parsed. hedged: a second replica was asked too. soft: probability of verdict
    1 against verdict 2, in the mode `verdict`."""

    verdict: Label | None
    agrees: bool | None
    cause: Cause | None
    latency_s: float
    replica: str | None = None
    retries: int = 0
    text: str = ""
    hedged: bool = False
    soft: float | None = None


@dataclass
class _Progress:
    """How far a call has come, for the judgement that a deadline cuts short. cause: None until it was sent."""

    replica: str | None = None
    cause: Cause | None = None
    retries: int = 0
    hedged: bool = False


class _Loop:
    """What belongs to one event loop; aiohttp's sessions cannot be shared between loops."""

    def __init__(self, endpoints: Endpoints, limit: int, tally: Tally) -> None:
        self.wire = Wire(endpoints, tally)
        self.balancer = Balancer(endpoints.replicas, limit)
        self.hedging = Hedging()


class ProxyClient:
    """Usable from several event loops and threads; close it in each loop with `aclose`.

    max_tokens, timeout_s, max_in_flight_per_replica, mode: None takes what the endpoints say. timeout_s is the deadline
    of a whole call: waiting for room, all attempts and pauses. hedge: a call that takes longer than most is sent to a
    second replica too, and the first answer counts.
    """

    def __init__(
        self,
        endpoints: Endpoints | Path | str,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
        max_in_flight_per_replica: int | None = None,
        hedge: bool = True,
        mode: Mode | None = None,
    ) -> None:
        self.endpoints = endpoints if isinstance(endpoints, Endpoints) else Endpoints.read(endpoints)
        self.max_tokens = max_tokens or self.endpoints.max_tokens
        self.timeout_s = timeout_s or self.endpoints.call_timeout_s
        self.limit = max_in_flight_per_replica or self.endpoints.max_num_seqs + self.endpoints.max_num_seqs // IN_WAIT
        self.mode: Mode = mode or self.endpoints.mode
        self.hedge = hedge and len(self.endpoints.replicas) > 1
        self.tally = Tally()
        self._folder = Path(self.endpoints.picture_folder).resolve() if self.endpoints.picture_folder else None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()
        self._lock = threading.Lock()

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
        progress = _Progress()
        pictures = [images] if isinstance(images, bytes | str | Path) else images
        found = await self._answer((question, response_1, response_2, rubric or ""), pictures, progress)
        answer = found if isinstance(found, Answer) else Answer("", None, found)
        agrees = None if answer.verdict is None or label is None else answer.verdict == label
        latency_s = time.monotonic() - started
        self.tally.ended(answer.verdict, agrees, answer.cause, latency_s)
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

    async def alive(self, timeout_s: float = 3.0) -> dict[str, bool]:
        """Which replicas say that they are well, by URL."""
        wire, replicas = self._state().wire, self.endpoints.replicas
        found = await asyncio.gather(*(wire.alive(replica, timeout_s) for replica in replicas))
        return dict(zip(replicas, found, strict=True))

    def snapshot(self) -> dict[str, Any]:
        """Counters since the start: see `Tally.snapshot`."""
        return self.tally.snapshot()

    def step_metrics(self) -> dict[str, float]:
        """Counters since the last call of this, flat and ready to log: see `Tally.step`."""
        return self.tally.step()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        state = self._loops.pop(asyncio.get_running_loop(), None)
        if state is not None:
            await state.wire.close()

    async def _answer(
        self, asked: tuple[str, str, str, str], pictures: Sequence[Picture], progress: _Progress
    ) -> Answer | Cause:
        *shown, rubric = asked
        if not rubric.strip():
            return Cause.NO_RUBRIC
        if not all(shown):
            return Cause.MISSING_FIELD
        state = self._state()
        try:
            async with asyncio.timeout(self.timeout_s):
                try:
                    known = [identify(picture, self._folder) for picture in pictures]
                except (OSError, ValueError):
                    return Cause.PICTURE_MISSING
                key = prompt_key(*asked[:3], [picture.name.encode() for picture in known])
                route = Route(key, preference(key, self.endpoints.replicas))
                return await self._ask(state, asked, known, route, progress)
        except Failed as failure:
            return failure.cause
        except TimeoutError:
            if progress.cause is None:
                return Cause.BREAKER_OPEN if state.balancer.all_open() else Cause.NO_ROOM
            return progress.cause

    async def _ask(
        self,
        state: _Loop,
        asked: tuple[str, str, str, str],
        pictures: Sequence[Shown],
        route: Route,
        progress: _Progress,
    ) -> Answer:
        """The answer of whichever replica gives one; raises Failed when another attempt is pointless."""
        state.hedging.started()
        failures = answered = 0
        chat: Chat | None = None
        while True:
            place = await state.balancer.take(route)
            if chat is None:  # not before: a step's calls may all come at once, and only some are sent at once
                chat = Chat.of(self.endpoints, self.max_tokens, asked, pictures, self.mode)
            progress.replica, progress.cause = place.replica, Cause.TIMEOUT
            try:
                return await self._race(state, chat, route, place, progress)
            except Failed as failure:
                failures += 1
                answered += failure.cause is not Cause.CONNECTION
                progress.cause = failure.cause
                if gives_up(failure.cause, answered):
                    raise
            if route.avoid.issuperset(route.order):  # each had its turn: a pause, then all of them again
                route.avoid.clear()
                await asyncio.sleep(back_off_s(failures))
            progress.retries += 1
            self.tally.count("retried")

    async def _race(self, state: _Loop, chat: Chat, route: Route, place: Place, progress: _Progress) -> Answer:
        """One attempt, and a second one on another replica if the first takes long; raises the last Failed."""
        running = {self._start(state, chat, place): place}
        hedged_at: float | None = None
        won = False
        try:
            while True:
                may_hedge, delay = self.hedge and hedged_at is None, state.hedging.delay_s()
                patience = (delay or LOOK_AGAIN_S) if may_hedge else None  # "long" may get a meaning meanwhile
                done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    if delay and (spare := self._spare(state, route, place)) is not None:
                        hedged_at, progress.hedged = time.monotonic(), True
                        running[self._start(state, chat, spare)] = spare
                    continue
                for attempt in done:
                    its = running.pop(attempt)
                    try:
                        answer = attempt.result()
                    except Failed:
                        route.avoid.add(its.replica)
                        if not running:
                            raise
                    else:
                        progress.replica, won = its.replica, True
                        self.tally.count("hedges_won", its is not place)
                        return answer
        finally:
            for attempt, its in running.items():
                attempt.cancel()
                silent = hedged_at is not None and state.balancer.breakers[its.replica].last_success < hedged_at
                if won and its is place and silent:  # another was quicker, and it answered nobody else meanwhile
                    state.balancer.failed(its.replica)
            await asyncio.gather(*running, return_exceptions=True)

    def _spare(self, state: _Loop, route: Route, place: Place) -> Place | None:
        suspected = not state.balancer.breakers[place.replica].closed
        if not state.hedging.may(suspected):
            return None
        spare = state.balancer.take_spare(route, place.replica)
        if spare is not None:
            state.hedging.took(suspected)
            self.tally.count("hedged")
        return spare

    def _start(self, state: _Loop, chat: Chat, place: Place) -> asyncio.Task[Answer]:
        """One request; its place is given back however it ends, also when it is cancelled before it has begun."""
        self.tally.count("requests")
        self.tally.count("warm", place.warm)
        self.tally.count("spilled", not place.home)
        held = [place.replica]

        def give_back(_: object = None) -> None:
            if held:
                state.balancer.give_back(held.pop())

        attempt = asyncio.create_task(self._attempt(state, chat, place.replica, give_back))
        attempt.add_done_callback(give_back)
        return attempt

    async def _attempt(self, state: _Loop, chat: Chat, replica: str, give_back: Callable[[], None]) -> Answer:
        """Raises Failed. Gives its place back at its end, and not a turn of the loop later."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.timeout_s * ATTEMPT_SHARE):
                answer = await state.wire.send(replica, chat)
        except TimeoutError:
            state.balancer.failed(replica)
            raise Failed(Cause.TIMEOUT) from None
        except Failed as failure:
            if failure.cause in _TROUBLE:
                state.balancer.failed(replica)
            elif failure.cause is Cause.REFUSED:
                state.balancer.succeeded(replica)
            raise
        else:
            state.balancer.succeeded(replica)
            state.hedging.answered(time.monotonic() - started)
            return answer
        finally:
            give_back()

    def _state(self) -> _Loop:
        loop = asyncio.get_running_loop()
        with self._lock:
            state = self._loops.get(loop)
            if state is None:
                state = self._loops[loop] = _Loop(self.endpoints, self.limit, self.tally)
            return state
