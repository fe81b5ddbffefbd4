"""How pictures reach the replicas: by path, once in full and then by name, or in full."""

from __future__ import annotations

import asyncio
import base64
import io
import os

import pytest
from aiohttp import web
from PIL import Image

from proxygrm.serving.pool import picture as picture_module
from proxygrm.serving.pool.picture import Encoder, Shown, identify
from proxygrm.serving.pool.routing import Cause
from support.proxy.stub import Server, running


def noise() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((1000, 1000), 90).save(out, "PNG")
    return out.getvalue()


PICTURE = noise()  # a body of several chunks
RUBRIC = "<rubric>\nNames the colour (100%)\n</rubric>"


def judge(proxy, pictures, number=0):
    return proxy.judge("What colour?", "Red.", "Blue.", f"{RUBRIC}{number}", images=pictures)


def pictures_of(server: Server) -> list[dict]:
    return [part for seen in server.seen for part in seen["body"]["messages"][0]["content"][:-1]]


def test_eight_rollouts_that_come_at_once_upload_their_picture_once(tmp_path):
    async def scene():
        server = Server()
        async with running(server, endpoints={"pictures_by_name": True}) as (proxy, _):
            found = await asyncio.gather(*(judge(proxy, PICTURE, i) for i in range(8)))
            later = await judge(proxy, PICTURE, 9)
            return [f.verdict for f in [*found, later]], pictures_of(server), proxy.snapshot()

    verdicts, sent, counted = asyncio.run(scene())
    assert verdicts == [1] * 9
    full = [part for part in sent if part["image_url"]]
    assert len(full) == counted["uploads"] == 1
    assert base64.b64decode(full[0]["image_url"]["url"].split(",")[1]) == PICTURE
    assert {part["uuid"] for part in sent} == {full[0]["uuid"]}


def test_a_replica_that_has_dropped_a_picture_is_sent_it_again(tmp_path):
    async def scene():
        server = Server()
        async with running(server, endpoints={"pictures_by_name": True}) as (proxy, _):
            await judge(proxy, [PICTURE, b"\xff\xd8 another"])
            server.pictures.clear()
            return (await judge(proxy, [PICTURE, b"\xff\xd8 another"])), proxy.snapshot()

    found, counted = asyncio.run(scene())
    assert (found.verdict, found.retries) == (1, 0)
    assert counted["uploads"] == 4
    assert counted["requests"] == 2  # for routing and metrics it is one request


def test_after_a_refusal_the_picture_goes_over_a_new_connection_because_the_old_one_may_be_cut_any_moment():
    async def scene():
        server = Server()
        connections = []

        async def behave(request, number):
            connections.append(request.transport.get_extra_info("peername"))

        server.behave = behave
        async with running(server, endpoints={"pictures_by_name": True}) as (proxy, _):
            await judge(proxy, PICTURE)
            server.pictures.clear()
            return (await judge(proxy, PICTURE)), connections, proxy.snapshot()

    found, connections, counted = asyncio.run(scene())
    assert (found.verdict, found.retries, counted["uploads"]) == (1, 0, 2)
    assert connections[0] == connections[1]  # by name, on the kept connection
    assert len(set(connections[1:])) == len(connections) - 1 >= 2


def test_a_kept_connection_that_is_cut_as_it_is_used_again_is_no_failure_of_the_replica():
    async def behave(request, number):
        if number == 2:
            request.transport.close()

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"pictures_by_name": True}) as (proxy, (url,)):
            found = [await judge(proxy, PICTURE, i) for i in range(3)]
            return found, len(server.seen), proxy._state().balancer.breakers[url].failures

    found, seen, failures = asyncio.run(scene())
    assert [(f.verdict, f.retries) for f in found] == [(1, 0)] * 3
    assert (seen, failures) == (4, 0)


def test_a_name_that_a_replica_stumbles_over_is_replaced_and_those_who_come_at_once_share_the_new_one():
    broken = []

    async def behave(request, number):
        part = (await request.json())["messages"][0]["content"][0]
        broken[:] = broken or [part["uuid"]]
        if part["uuid"] in broken:
            return web.Response(status=500, text="Internal server error")

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"pictures_by_name": True}) as (proxy, _):
            found = await asyncio.gather(*(judge(proxy, PICTURE, i) for i in range(8)))
            return found, pictures_of(server), proxy.snapshot()

    found, sent, counted = asyncio.run(scene())
    assert [(f.verdict, f.retries) for f in found] == [(1, 0)] * 8
    assert len({part["uuid"] for part in sent}) == 2
    assert counted["uploads"] == 2


@pytest.mark.parametrize("why", ["vanished", "500"])
def test_a_failure_that_is_not_the_paths_fault_leaves_paths_in_use(tmp_path, why):
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)

    async def behave(request, number):
        if number <= 4 and why == "500":
            return web.Response(status=500)
        if number == 1:
            path.unlink()

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"picture_folder": str(tmp_path)}) as (proxy, _):
            first = await judge(proxy, path)
            path.write_bytes(PICTURE)
            await judge(proxy, path)
            return first, [part["image_url"]["url"][:5] for part in pictures_of(server)]

    first, sent = asyncio.run(scene())
    assert first.cause == (Cause.PICTURE_MISSING if why == "vanished" else None)
    assert sent[-1] == "file:"


def test_those_who_waited_for_an_upload_that_failed_send_the_picture_themselves(tmp_path):
    async def behave(request, number):
        if number == 1:
            request.transport.close()

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"pictures_by_name": True}) as (proxy, _):
            return await asyncio.gather(*(judge(proxy, PICTURE, i) for i in range(4)))

    assert [f.verdict for f in asyncio.run(scene())] == [1] * 4


def test_a_server_that_is_not_known_to_remember_is_always_sent_the_picture_without_a_name(tmp_path):
    async def scene():
        server = Server()
        async with running(server) as (proxy, _):
            await asyncio.gather(*(judge(proxy, PICTURE, i) for i in range(3)))
            return pictures_of(server)

    sent = asyncio.run(scene())
    assert len(sent) == 3
    assert all("uuid" not in part and part["image_url"]["url"].startswith("data:image/png;base64,") for part in sent)


def test_a_picture_in_the_shared_folder_goes_by_its_path_also_with_odd_characters_in_it(tmp_path):
    path = tmp_path / "a ü%#?.png"
    path.write_bytes(PICTURE)

    async def scene():
        server = Server()
        async with running(server, endpoints={"picture_folder": str(tmp_path)}) as (proxy, _):
            return await judge(proxy, str(path)), pictures_of(server), proxy.snapshot()

    found, (sent,), counted = asyncio.run(scene())
    assert found.verdict == 1
    assert sent["image_url"]["url"].startswith("file:///")
    assert counted["uploads"] == 0


def test_a_path_outside_the_shared_folder_also_through_a_link_goes_by_its_bytes(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "out.png").write_bytes(PICTURE)
    (tmp_path / "shared" / "link.png").symlink_to(tmp_path / "out.png")

    async def scene():
        server = Server()
        async with running(server, endpoints={"picture_folder": str(tmp_path / "shared")}) as (proxy, _):
            await judge(proxy, [tmp_path / "out.png", tmp_path / "shared" / "link.png"])
            return pictures_of(server)

    assert [part["image_url"]["url"][:5] for part in asyncio.run(scene())] == ["data:"] * 2


def test_a_replica_that_cannot_read_our_paths_gets_bytes_from_then_on(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)

    async def scene():
        server = Server(reads=False)
        async with running(server, endpoints={"picture_folder": str(tmp_path)}) as (proxy, _):
            found = [await judge(proxy, path, i) for i in range(2)]
            return [f.verdict for f in found], [part["image_url"]["url"][:5] for part in pictures_of(server)]

    assert asyncio.run(scene()) == ([1, 1], ["file:", "data:", "data:"])


@pytest.mark.parametrize("how", ["gone", "empty", "a folder", "bytes that are empty"])
def test_a_picture_that_vanished_is_a_cause_of_its_own_and_nothing_is_sent(tmp_path, how):
    path = tmp_path / "a.png"
    if how == "empty":
        path.touch()
    if how == "a folder":
        path.mkdir()

    async def scene():
        server = Server()
        async with running(server) as (proxy, _):
            found = await judge(proxy, b"" if how.startswith("bytes") else path)
            return found.cause, len(server.seen), proxy.snapshot()["unscored"]

    assert asyncio.run(scene()) == (Cause.PICTURE_MISSING, 0, {"picture_missing": 1})


def test_a_file_is_read_once_for_many_callers_and_has_another_name_when_it_has_changed(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)
    reads = []
    encode = picture_module._encode
    monkeypatch.setattr(picture_module, "_encode", lambda given: reads.append(given) or encode(given))

    async def scene():
        encoder, before = Encoder(), identify(path, None)
        urls = await asyncio.gather(*(encoder.data_url(before) for _ in range(8)))
        urls.append(await encoder.data_url(identify(str(path), None)))
        path.write_bytes(PICTURE[::-1])
        os.utime(path, ns=(1, 1))
        after = identify(path, None)
        return set(urls), before.name != after.name, await encoder.data_url(after)

    urls, renamed, last = asyncio.run(scene())
    assert (len(reads), len(urls), renamed) == (2, 1, True)
    assert last not in urls


def test_the_cache_of_encoded_pictures_has_a_bound_in_bytes(monkeypatch):
    reads = []
    monkeypatch.setattr(picture_module, "_encode", lambda given: reads.append(given) or given)

    async def scene():
        encoder = Encoder(1000)
        for number in [*range(10), 7, 8, 9, 6]:
            await encoder.data_url(Shown(str(number), b"%d" % number * 300, None))
        await encoder.data_url(Shown("large", b"x" * 5000, None))
        return encoder._size, [int(given[:1]) for given in reads[10:-1]]

    assert asyncio.run(scene()) == (5000, [6])


def test_a_file_that_vanishes_between_the_call_and_its_turn_is_a_cause(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)

    async def behave(request, number):
        path.unlink(missing_ok=True)
        await asyncio.sleep(0.1)

    async def scene():
        async with running(Server(behave=behave), max_in_flight_per_replica=1) as (proxy, _):
            return await asyncio.gather(judge(proxy, PICTURE), judge(proxy, path))

    first, second = asyncio.run(scene())
    assert (first.verdict, second.cause) == (1, Cause.PICTURE_MISSING)
