"""The client with real HTTP servers on loopback, some of which misbehave."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import socket
import time

import pytest
from aiohttp import web

from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.pool.routing import Cause, preference, prompt_key
from support.proxy.stub import Server, running

pytestmark = pytest.mark.slow

IMAGE = b"\x89PNG not really"
PAIR = {"question": "What colour?", "response_1": "Red.", "response_2": "Blue.", "images": IMAGE}
RUBRIC = "<rubric>\nNames the colour (100%)\n</rubric>"


def preferred(urls):
    name = hashlib.sha256(IMAGE).hexdigest().encode()
    key = prompt_key(PAIR["question"], PAIR["response_1"], PAIR["response_2"], [name])
    return preference(key, urls)[0]


def questions_of(url, urls):
    """Questions whose home is this URL, without end; which ones they are depends on the ports."""
    numbered = (f"{number}?" for number in itertools.count())
    return (question for question in numbered if preference(prompt_key(question, "a", "b", []), urls)[0] == url)


def misbehave_where_preferred(servers, urls, behave):
    bad = servers[urls.index(preferred(urls))]
    bad.behave = behave
    return bad


def test_a_request_carries_image_then_text_with_the_rubric_last_greedy_and_the_key(tmp_path):
    async def scene():
        server = Server("2")
        async with running(server) as (proxy, _):
            judgement = await proxy.judge(**PAIR, rubric=RUBRIC, label=2)
            return judgement, server.seen[0], proxy.snapshot()

    judgement, seen, counted = asyncio.run(scene())
    assert (judgement.verdict, judgement.agrees, judgement.cause) == (2, True, None)
    image, text = seen["body"]["messages"][0]["content"]
    assert base64.b64decode(image["image_url"]["url"].split(",")[1]) == IMAGE
    assert text["text"].endswith(RUBRIC)
    assert "<image>" not in text["text"]
    assert (seen["body"]["temperature"], seen["body"]["max_tokens"]) == (0, 64)
    assert seen["headers"]["Authorization"] == "Bearer key"
    assert (counted["calls"], counted["scored"], counted["agreed"]) == (1, 1, 1)


def test_the_rollouts_of_one_prompt_go_to_one_replica_until_it_is_full(tmp_path):
    async def slow(request, number):
        await asyncio.sleep(0.15)

    async def scene(limit, calls):
        servers = [Server(behave=slow), Server(behave=slow)]
        async with running(*servers, max_in_flight_per_replica=limit) as (proxy, _):
            await asyncio.gather(*(proxy.judge(**PAIR, rubric=f"{RUBRIC}{i}") for i in range(calls)))
            return sorted(len(s.seen) for s in servers), [s.most for s in servers], proxy.snapshot()

    assert asyncio.run(scene(8, 8))[0] == [0, 8]
    shares, most, counted = asyncio.run(scene(3, 8))
    assert shares[0] >= 3
    assert max(most) <= 3
    assert counted["spilled"] >= 3
    assert counted["scored"] == 8


@pytest.mark.parametrize("how", ["status 500", "closes", "no answer in the JSON", "hangs", "refuses"])
def test_a_replica_that_fails_is_replaced_by_another(tmp_path, how):
    async def behave(request, number):
        if how == "status 500":
            return web.Response(status=500)
        if how == "closes":
            request.transport.close()
        if how == "no answer in the JSON":
            return web.json_response({"error": "none"})
        if how == "hangs":
            await asyncio.sleep(60)
        return web.Response()

    async def scene():
        servers = [Server(), Server()]
        async with running(*servers, timeout_s=6.0 if how == "hangs" else 60.0) as (proxy, urls):
            if how == "refuses":
                with socket.socket() as taken:
                    taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
                    dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
                    path = tmp_path / "with_a_dead_one.json"
                    proxy = ProxyClient(Endpoints((dead, urls[0]), "key").write(path), timeout_s=60.0)
                    questions = [f"{i}?" for i in range(8)] + [next(questions_of(dead, (dead, urls[0])))]
                    judgements = [await proxy.judge(question, "a", "b", RUBRIC) for question in questions]
                    await proxy.aclose()
                    assert {j.replica for j in judgements} == {urls[0]}
                    return judgements[0], proxy.snapshot()
            bad = misbehave_where_preferred(servers, urls, behave)
            judgements = await proxy.judge(**PAIR, rubric=RUBRIC, label=1)
            assert len(bad.seen) == 1
            return judgements, proxy.snapshot()

    judgements, counted = asyncio.run(scene())
    assert judgements.verdict == 1
    assert counted["retried"] >= 1
    assert counted["unscored"] == {}


def test_a_single_replica_that_comes_back_in_time_loses_nothing(tmp_path):
    async def behave(request, number):
        if number < 3:
            request.transport.close()

    async def scene():
        async with running(Server(behave=behave)) as (proxy, _):
            return await proxy.judge(**PAIR, rubric=RUBRIC), proxy.snapshot()

    judgement, counted = asyncio.run(scene())
    assert (judgement.verdict, counted["retried"]) == (1, 2)


@pytest.mark.parametrize(
    ("how", "cause", "requests"),
    [
        ("always 503", Cause.HTTP_ERROR, 4),
        ("bad request", Cause.REFUSED, 1),
        ("hangs", Cause.TIMEOUT, 2),
        ("babbles", Cause.UNPARSED, 1),
    ],
)
def test_a_lost_verdict_has_a_cause_and_is_counted_never_a_zero(tmp_path, how, cause, requests):
    async def behave(request, number):
        if how == "hangs":
            await asyncio.sleep(60)
        if how == "babbles":
            return web.json_response({"choices": [{"message": {"content": "Response 1, I think."}}]})
        return web.Response(status=400 if how == "bad request" else 503)

    async def scene():
        server = Server(behave=behave)
        async with running(server, timeout_s=3.0 if how == "hangs" else 60.0) as (proxy, _):
            started = time.monotonic()
            judgement = await proxy.judge(**PAIR, rubric=RUBRIC, label=1)
            return judgement, len(server.seen), proxy.snapshot(), time.monotonic() - started

    judgement, seen, counted, took = asyncio.run(scene())
    assert (judgement.verdict, judgement.agrees, judgement.cause) == (None, None, cause)
    assert seen == requests
    assert counted["unscored"] == {cause.value: 1}
    assert took < 30
    assert judgement.text == ("Response 1, I think." if how == "babbles" else "")


def test_an_incomplete_pair_is_not_sent(tmp_path):
    async def scene():
        server = Server()
        async with running(server) as (proxy, _):
            causes = [
                (await proxy.judge(**PAIR, rubric=None)).cause,
                (await proxy.judge(**PAIR, rubric="  ")).cause,
                (await proxy.judge(**{**PAIR, "response_2": ""}, rubric=RUBRIC)).cause,
                (await proxy.judge(**{**PAIR, "images": [tmp_path / "gone.png"]}, rubric=RUBRIC)).cause,
            ]
            return causes, len(server.seen), proxy.snapshot()

    causes, seen, counted = asyncio.run(scene())
    assert causes == [Cause.NO_RUBRIC, Cause.NO_RUBRIC, Cause.MISSING_FIELD, Cause.IMAGE_MISSING]
    assert seen == 0
    assert counted["unscored"] == {"no_rubric": 2, "missing_field": 1, "image_missing": 1}


def test_one_client_serves_several_event_loops_and_ignores_the_sites_http_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def scene():
        async with running(Server()) as (proxy, _):

            def in_another_loop():
                async def ask():
                    judgement = await proxy.judge(**PAIR, rubric=RUBRIC)
                    await proxy.aclose()
                    return judgement.verdict

                return asyncio.run(ask())

            return [await asyncio.to_thread(in_another_loop) for _ in range(2)]

    assert asyncio.run(scene()) == [1, 1]


def test_many_calls_at_once_are_all_answered_while_a_replica_dies_in_the_middle(tmp_path):
    async def dies(request, number):
        if number > 40:
            request.transport.close()
        await asyncio.sleep(0.01)

    async def scene():
        servers = [Server(behave=dies), Server(), Server()]
        async with running(*servers, max_in_flight_per_replica=16) as (proxy, _):
            calls = (proxy.judge(f"Question {i // 8}?", "a", "b", f"{RUBRIC}{i}", label=1) for i in range(400))
            judgements = await asyncio.gather(*calls)
            return judgements, proxy.snapshot()

    judgements, counted = asyncio.run(scene())
    assert [j.verdict for j in judgements] == [1] * 400
    assert (counted["scored"], counted["unscored"]) == (400, {})
    assert counted["retried"] > 0


def test_cancelled_calls_close_their_requests_and_leave_no_place_taken(tmp_path):
    async def hangs(request, number):
        if number <= 4:
            await asyncio.sleep(60)

    async def scene():
        server = Server(behave=hangs)
        async with running(server, max_in_flight_per_replica=4, timeout_s=60.0) as (proxy, _):
            calls = [asyncio.create_task(proxy.judge(**PAIR, rubric=f"{RUBRIC}{i}")) for i in range(8)]
            async with asyncio.timeout(20):  # a busy machine takes its time
                while server.now < 4:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            assert server.now == 4
            for call in calls[:6]:  # four at the server, two that wait for room
                call.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            return ended, server.now, len(server.seen)

    ended, still_served, seen = asyncio.run(scene())
    assert [isinstance(e, asyncio.CancelledError) for e in ended] == [True] * 6 + [False] * 2
    assert [e.verdict for e in ended[6:]] == [1, 1]
    assert (still_served, seen) == (0, 6)
