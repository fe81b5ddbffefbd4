"""Which call may use which replica now: load, breakers and the queue of one event loop. No HTTP here."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proxygrm.serving.pool.breaker import Breaker
from proxygrm.serving.pool.routing import Route, choose, pick

REMEMBERED_PROMPTS = 8192
"""For which it is known which replicas have had them: several times the prompts of a step."""


@dataclass(frozen=True)
class Place:
    """A request's place on a replica. warm: the replica has had the prompt before. home: it is the preferred one."""

    replica: str
    warm: bool
    home: bool


class Balancer:
    """Every place from `take` or `take_spare` is returned by `give_back`, however the request ends."""

    def __init__(self, replicas: Sequence[str], limit: int) -> None:
        self.replicas, self.limit = tuple(replicas), limit
        self.in_flight: Counter[str] = Counter()
        self.breakers = {replica: Breaker() for replica in self.replicas}
        self._waiting: dict[int, tuple[Route, asyncio.Future[Place]]] = {}
        self._last_number = 0
        self._spilling = False
        self._prompts: OrderedDict[bytes, set[str]] = OrderedDict()

    async def take(self, route: Route) -> Place:
        """Wait for a place on the best replica that has one."""
        loop = asyncio.get_running_loop()
        replica = choose(route, self.in_flight, self._limits(), self._warm(route), spill=False)
        if replica is not None:
            return self._assign(route, replica)
        place = loop.create_future()
        if not self._spilling:  # after all calls that arrived together, so that those at home on a replica go first
            self._spilling = True
            loop.call_soon(self._spill)
        self._last_number += 1
        number = self._last_number
        self._waiting[number] = (route, place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was assigned in the same moment
                self.give_back(place.result().replica)
            raise
        finally:
            self._waiting.pop(number, None)

    def take_spare(self, route: Route, exclude: str) -> Place | None:
        """A place on another replica, if one has room for which no call waits."""
        if self._waiting:
            return None
        limits = self._limits() | {exclude: 0}
        replica = choose(route, self.in_flight, limits, self._warm(route))
        return None if replica is None else self._assign(route, replica)

    def give_back(self, replica: str) -> None:
        """Not a coroutine, so that a cancelled call can give its place back too."""
        self.in_flight[replica] -= 1
        self._fill(replica)

    def succeeded(self, replica: str) -> None:
        breaker = self.breakers[replica]
        was_closed = breaker.closed
        breaker.succeeded(time.monotonic())
        if not was_closed:
            self._fill(replica)

    def failed(self, replica: str) -> None:
        back_off = self.breakers[replica].failed(time.monotonic())
        if back_off is not None:
            # A little later than the back-off, so that it is over by the breaker's clock too.
            asyncio.get_running_loop().call_later(back_off + 0.01, self._fill, replica)
            self._spill()  # calls that waited for this replica may use others now

    def all_open(self) -> bool:
        return not any(self._limits().values())

    def _limits(self) -> dict[str, int]:
        now = time.monotonic()
        return {replica: breaker.limit(now, self.limit) for replica, breaker in self.breakers.items()}

    def _spill(self) -> None:
        """Assign all free places, those of each replica first to the calls whose prompts belong there."""
        self._spilling = False
        for spill in (False, True):
            for replica in self.replicas:
                self._fill(replica, spill)

    def _fill(self, replica: str, spill: bool = True) -> None:
        limits = self._limits()
        while self._waiting and self.in_flight[replica] < limits[replica]:
            number = pick(self._queue(), replica, limits, spill)
            if number is None:
                return
            route, place = self._waiting.pop(number)
            place.set_result(self._assign(route, replica))

    def _queue(self) -> Iterator[tuple[int, Route, set[str]]]:
        for number, (route, place) in self._waiting.items():
            if not place.done():  # otherwise it is cancelled and about to leave the queue
                yield number, route, self._warm(route)

    def _warm(self, route: Route) -> set[str]:
        return self._prompts.get(route.key, set())

    def _assign(self, route: Route, replica: str) -> Place:
        self.in_flight[replica] += 1
        warm = self._prompts.setdefault(route.key, set())
        self._prompts.move_to_end(route.key)
        if len(self._prompts) > REMEMBERED_PROMPTS:
            self._prompts.popitem(last=False)
        place = Place(replica, replica in warm, replica == route.order[0])
        warm.add(replica)
        return place
