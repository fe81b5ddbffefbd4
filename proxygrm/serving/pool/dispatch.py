"""Brings requests to the replicas: one client of all of them, for many concurrent calls.

The policy is here: routing, retries, deadlines, breakers, hedging and counts. A request itself is sent and read by
`serving.chat`; what it asks, and what its answer means, is its own (`pool.request`). Whatever fails, a call is retried
on another replica until its deadline and then names its cause.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.answer import AttemptFailed
from proxygrm.serving.pool.balancer import Balancer, Place
from proxygrm.serving.pool.hedging import RECHECK_S, Hedging
from proxygrm.serving.pool.image import ImageInput, ImageRef, identify
from proxygrm.serving.pool.request import PoolRequest
from proxygrm.serving.pool.routing import Cause, Route, back_off_s, gives_up, preference
from proxygrm.serving.pool.sender import Sender
from proxygrm.serving.pool.tally import Tally

Answer = TypeVar("Answer")
ATTEMPT_SHARE = 0.5
"""Of a call's time, for one attempt, so that a replica that hangs leaves time for another."""
SEQUENCES_PER_QUEUED = 16
"""One request per so many sequences of a replica waits in its queue, so that no sequence slot waits for the network."""
_REPLICA_FAULTS = frozenset({Cause.TIMEOUT, Cause.HTTP_ERROR, Cause.CONNECTION, Cause.UNPROVEN, Cause.GARBAGE})
"""Causes that are the replica's fault and not the request's."""


@dataclass
class Progress:
    """The state of a call, for its caller and for when its deadline passes. cause: None until it was sent."""

    replica: str | None = None
    cause: Cause | None = None
    retries: int = 0
    hedged: bool = False


class _LoopState:
    """What belongs to one event loop; aiohttp's sessions cannot be shared between loops."""

    def __init__(self, endpoints: Endpoints, limit: int, tally: Tally) -> None:
        self.sender = Sender(endpoints, tally)
        self.balancer = Balancer(endpoints.replicas, limit)
        self.hedging = Hedging()


class Pool:
    """Usable from several event loops and threads; close it in each loop with `aclose`.

    timeout_s, max_in_flight_per_replica: None takes the endpoints' value. timeout_s is the deadline of a whole call:
    waiting for a place, all attempts and pauses. hedge: a call that takes longer than most is sent to a second replica
    too, and the first answer counts.
    """

    def __init__(
        self,
        endpoints: Endpoints | Path | str,
        timeout_s: float | None = None,
        max_in_flight_per_replica: int | None = None,
        hedge: bool = True,
    ) -> None:
        self.endpoints = endpoints if isinstance(endpoints, Endpoints) else Endpoints.read(endpoints)
        self.timeout_s = timeout_s or self.endpoints.call_timeout_s
        self.limit = (
            max_in_flight_per_replica
            or self.endpoints.max_num_seqs + self.endpoints.max_num_seqs // SEQUENCES_PER_QUEUED
        )
        self.hedge = hedge and len(self.endpoints.replicas) > 1
        self.tally = Tally()
        self._folder = Path(self.endpoints.image_folder).resolve() if self.endpoints.image_folder else None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = WeakKeyDictionary()
        self._lock = threading.Lock()

    async def call(
        self,
        images: Sequence[ImageInput],
        key: Callable[[Sequence[ImageRef]], bytes],
        build: Callable[[Sequence[ImageRef]], PoolRequest[Answer]],
        progress: Progress,
    ) -> Answer:
        """Raises AttemptFailed with the cause for which there is no answer.

        key: a hash of what this request shares with others, and with it their KV prefix. build: late, because many
        calls may come at once, and most of them wait.
        """
        state = self._state()
        try:
            async with asyncio.timeout(self.timeout_s):
                try:
                    refs = [identify(image, self._folder) for image in images]
                except (OSError, ValueError) as error:
                    raise AttemptFailed(Cause.IMAGE_MISSING, str(error)) from error
                shared = key(refs)
                route = Route(shared, preference(shared, self.endpoints.replicas))
                return await self._retry(state, lambda: build(refs), route, progress)
        except TimeoutError:
            never_sent = Cause.BREAKER_OPEN if state.balancer.all_open() else Cause.NO_ROOM
            raise AttemptFailed(progress.cause or never_sent) from None

    async def health(self, timeout_s: float = 3.0) -> dict[str, bool]:
        """Which replicas report that they are healthy, by URL."""
        sender, replicas = self._state().sender, self.endpoints.replicas
        healthy = await asyncio.gather(*(sender.is_healthy(replica, timeout_s) for replica in replicas))
        return dict(zip(replicas, healthy, strict=True))

    def snapshot(self) -> dict[str, Any]:
        """Counters since the start: see `Tally.snapshot`."""
        return self.tally.snapshot()

    def step_metrics(self) -> dict[str, float]:
        """Counters since the previous call of this method, flat and ready to log: see `Tally.step`."""
        return self.tally.step()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        state = self._loops.pop(asyncio.get_running_loop(), None)
        if state is not None:
            await state.sender.close()

    async def _retry(
        self,
        state: _LoopState,
        build: Callable[[], PoolRequest[Answer]],
        route: Route,
        progress: Progress,
    ) -> Answer:
        """Attempts until a replica answers; raises AttemptFailed when another attempt is pointless."""
        state.hedging.started()
        failures = answered = 0
        request: PoolRequest[Answer] | None = None
        while True:
            place = await state.balancer.take(route)
            request = request or build()
            progress.replica, progress.cause = place.replica, Cause.TIMEOUT
            try:
                return await self._race(state, request, route, place, progress)
            except AttemptFailed as failure:
                failures += 1
                answered += failure.cause is not Cause.CONNECTION
                progress.cause = failure.cause
                if gives_up(failure.cause, answered):
                    raise
            if route.avoid.issuperset(route.order):  # each has failed once: a pause, then all of them again
                route.avoid.clear()
                await asyncio.sleep(back_off_s(failures))
            progress.retries += 1
            self.tally.count("retried")

    async def _race(
        self, state: _LoopState, request: PoolRequest[Answer], route: Route, place: Place, progress: Progress
    ) -> Answer:
        """One attempt, and a second one on another replica if the first is slow; raises the last AttemptFailed."""
        running = {self._start(state, request, place): place}
        hedged_at: float | None = None
        won = False
        try:
            while True:
                may_hedge, delay = self.hedge and hedged_at is None, state.hedging.delay_s()
                wait_s = (delay or RECHECK_S) if may_hedge else None  # the delay may become known meanwhile
                done, _ = await asyncio.wait(running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    if delay and (spare := self._spare(state, route, place)) is not None:
                        hedged_at, progress.hedged = time.monotonic(), True
                        running[self._start(state, request, spare)] = spare
                    continue
                for attempt in done:
                    attempt_place = running.pop(attempt)
                    try:
                        answer = attempt.result()
                    except AttemptFailed:
                        route.avoid.add(attempt_place.replica)
                        if not running:
                            raise
                    else:
                        progress.replica, won = attempt_place.replica, True
                        self.tally.count("hedges_won", attempt_place is not place)
                        return answer
        finally:
            for attempt, attempt_place in running.items():
                attempt.cancel()
                last_success = state.balancer.breakers[attempt_place.replica].last_success
                silent = hedged_at is not None and last_success < hedged_at
                if won and attempt_place is place and silent:  # it lost, and has answered no other call meanwhile
                    state.balancer.failed(attempt_place.replica)
            await asyncio.gather(*running, return_exceptions=True)

    def _spare(self, state: _LoopState, route: Route, place: Place) -> Place | None:
        suspected = not state.balancer.breakers[place.replica].closed
        if not state.hedging.may(suspected):
            return None
        spare = state.balancer.take_spare(route, place.replica)
        if spare is not None:
            state.hedging.hedged(suspected)
            self.tally.count("hedged")
        return spare

    def _start(self, state: _LoopState, request: PoolRequest[Answer], place: Place) -> asyncio.Task[Answer]:
        """One request; its place is given back however it ends, also when it is cancelled before it has started."""
        self.tally.count("requests")
        self.tally.count("warm", place.warm)
        self.tally.count("spilled", not place.home)
        held = [place.replica]

        def give_back(_: object = None) -> None:
            if held:
                state.balancer.give_back(held.pop())

        attempt = asyncio.create_task(self._attempt(state, request, place.replica, give_back))
        attempt.add_done_callback(give_back)
        return attempt

    async def _attempt(
        self, state: _LoopState, request: PoolRequest[Answer], replica: str, give_back: Callable[[], None]
    ) -> Answer:
        """Raises AttemptFailed. Gives its place back as it ends, and not one turn of the event loop later."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.timeout_s * ATTEMPT_SHARE):
                answer = await state.sender.send(replica, request)
        except TimeoutError:
            state.balancer.failed(replica)
            raise AttemptFailed(Cause.TIMEOUT) from None
        except AttemptFailed as failure:
            if failure.cause in _REPLICA_FAULTS:
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

    def _state(self) -> _LoopState:
        loop = asyncio.get_running_loop()
        with self._lock:
            state = self._loops.get(loop)
            if state is None:
                state = self._loops[loop] = _LoopState(self.endpoints, self.limit, self.tally)
            return state
