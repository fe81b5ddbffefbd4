"""Places and the queue for them, with real tasks and without HTTP."""

from __future__ import annotations

import asyncio

from proxygrm.serving.pool.balancer import Balancer
from proxygrm.serving.pool.routing import Route

A, B = "http://a", "http://b"


def route(key: str, home: str = A) -> Route:
    return Route(key.encode(), [A, B] if home == A else [B, A])


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_places_never_exceed_the_limit_and_none_is_lost_when_calls_are_cancelled_at_any_moment():
    async def scene():
        balancer = Balancer([A, B], 3)
        most = 0

        async def call(number: int) -> None:
            nonlocal most
            place = await balancer.take(route(str(number // 4), A if number % 3 else B))
            try:
                most = max(most, *balancer.in_flight.values())
                await asyncio.sleep(0.001 * (number % 5))
            finally:
                balancer.give_back(place.replica)

        calls = [asyncio.create_task(call(number)) for number in range(300)]
        for number, task in enumerate(calls):
            if number % 7 == 0:
                await asyncio.sleep(0)
                task.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        return most, ended, +balancer.in_flight, balancer._waiting

    most, ended, in_flight, waiting = asyncio.run(scene())
    assert most == 3
    assert sum(e is None for e in ended) >= 300 - 43
    assert (in_flight, waiting) == ({}, {})


def test_a_place_assigned_in_the_moment_of_cancellation_goes_to_the_next_call():
    async def scene():
        balancer = Balancer([A], 1)
        first = await balancer.take(Route(b"1", [A]))
        second = asyncio.create_task(balancer.take(Route(b"2", [A])))
        third = asyncio.create_task(balancer.take(Route(b"3", [A])))
        await settled()
        balancer.give_back(first.replica)  # the second has its place, but has not run yet
        second.cancel()
        await settled()
        return second.cancelled(), third.done(), balancer.in_flight[A]

    assert asyncio.run(scene()) == (True, True, 1)


def test_the_rollouts_of_a_waiting_prompt_stay_together_and_an_idle_replica_takes_a_whole_prompt():
    async def scene():
        balancer = Balancer([A, B], 1)
        busy = [await balancer.take(route("x", A)), await balancer.take(route("y", B))]
        went: list[tuple[str, str]] = []

        async def call(key: str) -> None:
            place = await balancer.take(route(key))  # all at home on A
            went.append((key, place.replica))
            await asyncio.sleep(0.01)
            balancer.give_back(place.replica)

        calls = [asyncio.create_task(call(key)) for key in ("p", "p", "p", "q", "q", "q")]
        await settled()
        for place in busy:
            balancer.give_back(place.replica)
        await asyncio.gather(*calls)
        return went

    went = asyncio.run(scene())
    assert {key: {replica for k, replica in went if k == key} for key in "pq"} == {"p": {A}, "q": {B}}


def test_a_call_that_waits_for_a_replica_whose_breaker_opens_uses_another_and_a_probe_follows_by_itself():
    async def scene():
        balancer = Balancer([A, B], 1)
        only_a = await balancer.take(route("x"))
        only_b = await balancer.take(route("y", B))
        retry = route("z")
        retry.avoid.add(B)
        waits = asyncio.create_task(balancer.take(retry))
        await settled()
        balancer.give_back(only_b.replica)
        await settled()
        assert not waits.done()  # B has room, but the call has failed there
        for _ in range(3):
            balancer.failed(A)
        await settled()
        went = (await waits).replica
        balancer.failed(B), balancer.failed(B), balancer.failed(B)
        balancer.give_back(went)
        balancer.give_back(only_a.replica)
        assert balancer.all_open()
        probe = await asyncio.wait_for(balancer.take(route("w")), 60)
        assert not balancer.all_open()
        return went, probe.replica

    went, probe = asyncio.run(scene())
    assert went == B
    assert probe in (A, B)


def test_a_spare_place_is_on_another_replica_and_not_one_that_a_call_waits_for():
    async def scene():
        balancer = Balancer([A, B], 1)
        first = await balancer.take(route("x"))
        spare = balancer.take_spare(route("x"), exclude=first.replica)
        none_left = balancer.take_spare(route("x"), exclude=first.replica)
        return spare.replica, none_left

    assert asyncio.run(scene()) == (B, None)
