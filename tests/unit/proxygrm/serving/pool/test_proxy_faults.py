"""Whatever the replicas do, every call ends in time with a verdict or a cause, and is counted once."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from proxygrm.serving.pool import dispatch as dispatch_module
from proxygrm.serving.pool import hedging as hedging_module
from proxygrm.serving.pool.hedging import NEEDED_LATENCIES
from proxygrm.serving.pool.routing import Cause, preference, prompt_key
from support.proxy.stub import Server, completion, running, until

pytestmark = pytest.mark.slow

RUBRIC = "<rubric>\nNames the colour (100%)\n</rubric>"


def calls(proxy, number, first=0):
    return [proxy.judge(f"Question {i // 8}?", "a", "b", f"{RUBRIC}{i}", label=1) for i in range(first, first + number)]


def settled(counted, number):
    """Every call is counted once, as scored or by its cause."""
    assert counted["calls"] == number
    assert counted["scored"] + sum(counted["unscored"].values()) == number


def test_a_replica_that_hangs_in_mid_batch_loses_nothing_and_soon_gets_no_more_calls():
    async def hangs(request, number):
        if number > 20:
            await asyncio.sleep(60)
        await asyncio.sleep(0.01)

    async def scene():
        servers = [Server(behave=hangs), Server(), Server()]
        async with running(*servers, max_in_flight_per_replica=16, timeout_s=60.0) as (proxy, _):
            started = time.monotonic()
            judgements = await asyncio.gather(*calls(proxy, 400))
            took, requests = time.monotonic() - started, len(servers[0].seen)
            judgements += await asyncio.gather(*calls(proxy, 80, first=400))
            await until(lambda: servers[0].now == 0)  # hung requests were closed
            return judgements, took, len(servers[0].seen) - requests, servers, proxy.snapshot()

    judgements, took, requests_later, servers, counted = asyncio.run(scene())
    assert [j.verdict for j in judgements] == [1] * 480
    assert took < 25  # an attempt may take 30 s: it was hedges that saved these calls
    assert requests_later <= 3
    assert counted["hedges_won"] >= 1
    assert sum(server.ended for server in servers) >= 480
    settled(counted, 480)


def test_calls_that_hung_before_latencies_were_known_are_hedged_as_soon_as_they_are():
    async def hangs(request, number):
        await asyncio.sleep(60)

    async def scene():
        async with running(Server(behave=hangs), Server(), timeout_s=60.0, max_in_flight_per_replica=8) as (proxy, _):
            return await asyncio.gather(*calls(proxy, 64)), proxy.snapshot()

    judgements, counted = asyncio.run(scene())
    assert [j.verdict for j in judgements] == [1] * 64
    assert max(j.latency_s for j in judgements) < 25  # an attempt may take 30 s
    assert counted["retried"] == 0
    settled(counted, 64)


def test_a_slow_call_is_hedged_once_and_the_loser_is_closed(monkeypatch):
    monkeypatch.setattr(hedging_module, "MIN_DELAY_S", 0.5)  # on a busy machine every call may take 0.05 s

    async def slow(request, number):
        if b"slow" in await request.read():
            await asyncio.sleep(60)

    async def scene():
        servers = [Server(behave=slow), Server(behave=slow)]
        async with running(*servers, timeout_s=60.0) as (proxy, urls):
            await asyncio.gather(*calls(proxy, NEEDED_LATENCIES))
            before = [len(s.seen) for s in servers]
            servers[0].behave, servers[1].behave = slow, None
            homes = {f"{i}?": preference(prompt_key(f"{i}?", "slow", "b", []), urls)[0] for i in range(100)}
            questions = [next(q for q in homes if homes[q] == url) for url in urls]  # it depends on the ports
            questions += [q for q in homes if q not in questions][:4]
            judgements = [await proxy.judge(question, "slow", "b", RUBRIC, label=1) for question in questions]
            await until(lambda: servers[0].now == 0)
            return (
                judgements,
                [len(s.seen) - b for s, b in zip(servers, before, strict=True)],
                servers,
                proxy.snapshot(),
            )

    judgements, seen, servers, counted = asyncio.run(scene())
    assert [j.verdict for j in judgements] == [1] * 6
    assert all(j.latency_s < 25 for j in judgements)  # an attempt may take 30 s
    assert seen[1] == 6
    assert counted["hedged"] == counted["hedges_won"] == seen[0] == sum(j.hedged for j in judgements) > 0
    assert (servers[0].now, servers[0].cancelled) == (0, seen[0])
    settled(counted, NEEDED_LATENCIES + 6)


def test_an_answer_after_the_deadline_does_not_count():
    async def late(request, number):
        await asyncio.sleep(30)

    async def scene():
        server = Server(behave=late)
        async with running(server, timeout_s=0.6) as (proxy, _):
            judgements = await asyncio.gather(*calls(proxy, 4))
            await until(lambda: server.now == 0)
            return judgements, server, proxy.snapshot()

    judgements, server, counted = asyncio.run(scene())
    assert {j.cause for j in judgements} == {Cause.TIMEOUT}
    assert all(j.latency_s < 20 for j in judgements)
    assert (server.now, server.ended) == (0, 0)
    settled(counted, 4)
    assert counted["unscored"] == {"timeout": 4}


def test_when_all_replicas_are_dead_calls_wait_and_are_judged_by_the_first_that_recovers():
    async def scene():
        servers = [Server(), Server()]
        async with running(*servers, timeout_s=60.0) as (proxy, _):
            for server in servers:
                await server.stop()
            pending = asyncio.gather(*calls(proxy, 64))
            await asyncio.sleep(1.5)
            assert not pending.done()
            await servers[1].start()
            judgements = await pending
            return judgements, servers, proxy.snapshot()

    judgements, servers, counted = asyncio.run(scene())
    assert [j.verdict for j in judgements] == [1] * 64
    assert (servers[0].ended, servers[1].ended) == (0, 64)
    assert counted["requests"] < 64 * 4  # breakers, not a storm
    settled(counted, 64)


def test_when_all_stay_dead_every_call_ends_at_its_deadline_with_a_cause():
    async def scene():
        servers = [Server(), Server()]
        async with running(*servers, timeout_s=0.7) as (proxy, _):
            for server in servers:
                await server.stop()
            started = time.monotonic()
            judgements = await asyncio.gather(*calls(proxy, 64))
            took = time.monotonic() - started
            late = await proxy.judge("q", "a", "b", RUBRIC)
            return judgements, took, late, proxy.snapshot()

    judgements, took, late, counted = asyncio.run(scene())
    assert {j.verdict for j in judgements} == {None}
    down = {Cause.CONNECTION, Cause.BREAKER_OPEN, Cause.TIMEOUT}  # the last when it ended in the middle of an attempt
    assert {j.cause for j in judgements} <= down
    assert late.cause in down
    assert took < 30
    settled(counted, 65)


def test_calls_that_never_got_a_place_have_that_cause():
    async def hangs(request, number):
        await asyncio.sleep(60)

    async def scene():
        async with running(Server(behave=hangs), timeout_s=0.5, max_in_flight_per_replica=2) as (proxy, _):
            return await asyncio.gather(*calls(proxy, 4)), proxy.snapshot()

    judgements, counted = asyncio.run(scene())
    assert [j.verdict for j in judgements] == [None] * 4
    assert set(counted["unscored"]) <= {"timeout", "no_room"}
    settled(counted, 4)


def test_garbage_of_every_kind_is_retried_elsewhere_and_alone_it_is_a_cause(monkeypatch):
    kinds = [
        lambda: web.Response(body=b"\xff\xfe not JSON"),
        lambda: web.json_response([]),
        lambda: web.json_response({"choices": []}),
        lambda: web.json_response({"choices": [{"message": {"content": None}}]}),
        lambda: web.Response(text="[" * 100_000),
    ]

    async def garbage(request, number):
        return kinds[number % len(kinds)]()

    async def not_http(request, number):
        request.transport.write(b"\x16\x03\x01 what is HTTP?\r\n\r\n")
        request.transport.close()

    async def scene(timeout_s, behave, *others):
        async with running(Server(behave=behave), *others, timeout_s=timeout_s) as (proxy, _):
            return await asyncio.gather(*calls(proxy, 16)), proxy.snapshot()

    for behave in (garbage, not_http):
        judgements, counted = asyncio.run(scene(60.0, behave, Server()))
        assert [j.verdict for j in judgements] == [1] * 16
        settled(counted, 16)
    monkeypatch.setattr(dispatch_module, "back_off_s", lambda failures: 0.01)
    judgements, counted = asyncio.run(scene(2.0, garbage))  # its end is not near that of a breaker's pause
    assert {j.cause for j in judgements} == {Cause.GARBAGE}
    settled(counted, 16)


def test_an_answer_without_end_is_abandoned():
    async def endless(request, number):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 1024**2)

    async def scene():
        async with running(Server(behave=endless), Server(), timeout_s=60.0) as (proxy, _):
            return await asyncio.gather(*calls(proxy, 2))

    assert [j.verdict for j in asyncio.run(scene())] == [1, 1]


def test_a_generation_that_never_closes_its_tags_is_cut_off_at_max_tokens_and_not_asked_again():
    async def babbles(request, number):
        return completion("<think>" + "and so on " * 64, "length")

    async def scene():
        server = Server(behave=babbles)
        async with running(server, max_tokens=64) as (proxy, _):
            return await proxy.judge("q", "a", "b", RUBRIC, label=1), server.seen, proxy.snapshot()

    judgement, seen, counted = asyncio.run(scene())
    assert (judgement.verdict, judgement.agrees, judgement.cause) == (None, None, Cause.CUT_OFF)
    assert [request["body"]["max_tokens"] for request in seen] == [64]
    assert counted["unscored"] == {"cut_off": 1}


def test_cancelled_calls_free_their_places_at_once_also_before_they_have_started():
    async def slow(request, number):
        await asyncio.sleep(60)

    async def scene():
        server = Server(behave=slow)
        async with running(server, max_in_flight_per_replica=8, timeout_s=60.0) as (proxy, _):
            tasks = [asyncio.create_task(call) for call in calls(proxy, 16)]
            await until(lambda: server.now >= 8)
            await asyncio.sleep(0.2)
            in_service = server.now
            for task in tasks:
                task.cancel()
            not_started = asyncio.create_task(proxy.judge("q", "a", "b", RUBRIC))
            await asyncio.sleep(0)
            not_started.cancel()
            await asyncio.gather(*tasks, not_started, return_exceptions=True)
            await until(lambda: server.now == 0)
            (state,) = proxy._loops.values()
            return in_service, server.now, server.cancelled, +state.balancer.in_flight, proxy.snapshot()["calls"]

    assert asyncio.run(scene()) == (8, 0, 8, {}, 0)


def test_metrics_of_a_step_are_flat_restart_at_zero_and_count_lost_calls():
    async def scene():
        async with running(Server()) as (proxy, _):
            await asyncio.gather(*calls(proxy, 16))
            await proxy.judge("q", "a", "b", None)
            first = proxy.step_metrics()
            second = proxy.step_metrics()
            await asyncio.gather(*calls(proxy, 4))
            return first, second, proxy.step_metrics(), proxy.snapshot()

    first, second, third, total = asyncio.run(scene())
    assert all(name.startswith("proxy/") and isinstance(value, float) for name, value in first.items())
    assert (first["proxy/calls"], first["proxy/scored"], first["proxy/unscored/no_rubric"]) == (17, 16, 1)
    assert first["proxy/prefix_hit_share"] == 14 / 16  # two prompts of eight rollouts
    assert (second["proxy/calls"], second["proxy/latency_p95_s"]) == (0, 0)
    assert "proxy/unscored/no_rubric" not in second
    assert (third["proxy/calls"], third["proxy/prefix_hit_share"]) == (4, 1.0)
    assert total["calls"] == 21
