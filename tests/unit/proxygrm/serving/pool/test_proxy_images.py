"""How images reach the replicas: by path, once in full and then by uuid, or always in full."""

from __future__ import annotations

import asyncio
import base64
import io
import os

import pytest
from aiohttp import web
from PIL import Image

from proxygrm.serving.pool import image as image_module
from proxygrm.serving.pool.image import Encoder, ImageRef, identify
from proxygrm.serving.pool.routing import Cause
from support.proxy.stub import Server, running

pytestmark = pytest.mark.slow


def noise() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((1000, 1000), 90).save(out, "PNG")
    return out.getvalue()


IMAGE = noise()  # a body of several chunks
RUBRIC = "<rubric>\nNames the colour (100%)\n</rubric>"


def judge(proxy, images, number=0):
    return proxy.judge("What colour?", "Red.", "Blue.", f"{RUBRIC}{number}", images=images)


def images_of(server: Server) -> list[dict]:
    return [part for seen in server.seen for part in seen["body"]["messages"][0]["content"][:-1]]


def test_eight_rollouts_that_come_at_once_upload_their_image_once(tmp_path):
    async def scene():
        server = Server()
        async with running(server, endpoints={"images_by_name": True}) as (proxy, _):
            judgements = await asyncio.gather(*(judge(proxy, IMAGE, i) for i in range(8)))
            later = await judge(proxy, IMAGE, 9)
            return [j.verdict for j in [*judgements, later]], images_of(server), proxy.snapshot()

    verdicts, sent, counted = asyncio.run(scene())
    assert verdicts == [1] * 9
    full = [part for part in sent if part["image_url"]]
    assert len(full) == counted["uploads"] == 1
    assert base64.b64decode(full[0]["image_url"]["url"].split(",")[1]) == IMAGE
    assert {part["uuid"] for part in sent} == {full[0]["uuid"]}


def test_a_replica_that_has_dropped_an_image_is_sent_it_again(tmp_path):
    async def scene():
        server = Server()
        async with running(server, endpoints={"images_by_name": True}) as (proxy, _):
            await judge(proxy, [IMAGE, b"\xff\xd8 another"])
            server.images.clear()
            return (await judge(proxy, [IMAGE, b"\xff\xd8 another"])), proxy.snapshot()

    judgement, counted = asyncio.run(scene())
    assert (judgement.verdict, judgement.retries) == (1, 0)
    assert counted["uploads"] == 4
    assert counted["requests"] == 2  # for routing and metrics it is one request


def test_after_a_refusal_the_image_is_sent_over_a_new_connection_because_the_old_one_may_be_cut():
    async def scene():
        server = Server()
        connections = []

        async def behave(request, number):
            connections.append(request.transport.get_extra_info("peername"))

        server.behave = behave
        async with running(server, endpoints={"images_by_name": True}) as (proxy, _):
            await judge(proxy, IMAGE)
            server.images.clear()
            return (await judge(proxy, IMAGE)), connections, proxy.snapshot()

    judgement, connections, counted = asyncio.run(scene())
    assert (judgement.verdict, judgement.retries, counted["uploads"]) == (1, 0, 2)
    assert connections[0] == connections[1]  # by uuid, on the kept connection
    assert len(set(connections[1:])) == len(connections) - 1 >= 2


def test_a_kept_connection_that_is_cut_as_it_is_reused_is_not_a_failure_of_the_replica():
    async def behave(request, number):
        if number == 2:
            request.transport.close()

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"images_by_name": True}) as (proxy, (url,)):
            judgements = [await judge(proxy, IMAGE, i) for i in range(3)]
            return judgements, len(server.seen), proxy._state().balancer.breakers[url].failures

    judgements, seen, failures = asyncio.run(scene())
    assert [(j.verdict, j.retries) for j in judgements] == [(1, 0)] * 3
    assert (seen, failures) == (4, 0)


def test_a_uuid_that_a_replica_fails_on_is_replaced_once_for_all_concurrent_calls():
    broken = []

    async def behave(request, number):
        part = (await request.json())["messages"][0]["content"][0]
        broken[:] = broken or [part["uuid"]]
        if part["uuid"] in broken:
            return web.Response(status=500, text="Internal server error")

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"images_by_name": True}) as (proxy, _):
            judgements = await asyncio.gather(*(judge(proxy, IMAGE, i) for i in range(8)))
            return judgements, images_of(server), proxy.snapshot()

    judgements, sent, counted = asyncio.run(scene())
    assert [(j.verdict, j.retries) for j in judgements] == [(1, 0)] * 8
    assert len({part["uuid"] for part in sent}) == 2
    assert counted["uploads"] == 2


@pytest.mark.parametrize("why", ["vanished", "500"])
def test_a_failure_that_paths_did_not_cause_leaves_paths_in_use(tmp_path, why):
    path = tmp_path / "a.png"
    path.write_bytes(IMAGE)

    async def behave(request, number):
        if number <= 4 and why == "500":
            return web.Response(status=500)
        if number == 1:
            path.unlink()

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"image_folder": str(tmp_path)}) as (proxy, _):
            first = await judge(proxy, path)
            path.write_bytes(IMAGE)
            await judge(proxy, path)
            return first, [part["image_url"]["url"][:5] for part in images_of(server)]

    first, sent = asyncio.run(scene())
    assert first.cause == (Cause.IMAGE_MISSING if why == "vanished" else None)
    assert sent[-1] == "file:"


def test_calls_that_waited_for_an_upload_that_failed_send_the_image_themselves(tmp_path):
    async def behave(request, number):
        if number == 1:
            request.transport.close()

    async def scene():
        server = Server(behave=behave)
        async with running(server, endpoints={"images_by_name": True}) as (proxy, _):
            return await asyncio.gather(*(judge(proxy, IMAGE, i) for i in range(4)))

    assert [j.verdict for j in asyncio.run(scene())] == [1] * 4


def test_a_server_that_does_not_remember_images_is_always_sent_them_without_a_uuid(tmp_path):
    async def scene():
        server = Server()
        async with running(server) as (proxy, _):
            await asyncio.gather(*(judge(proxy, IMAGE, i) for i in range(3)))
            return images_of(server)

    sent = asyncio.run(scene())
    assert len(sent) == 3
    assert all("uuid" not in part and part["image_url"]["url"].startswith("data:image/png;base64,") for part in sent)


def test_an_image_in_the_shared_folder_is_sent_by_path_also_with_odd_characters_in_it(tmp_path):
    path = tmp_path / "a ü%#?.png"
    path.write_bytes(IMAGE)

    async def scene():
        server = Server()
        async with running(server, endpoints={"image_folder": str(tmp_path)}) as (proxy, _):
            return await judge(proxy, str(path)), images_of(server), proxy.snapshot()

    judgement, (sent,), counted = asyncio.run(scene())
    assert judgement.verdict == 1
    assert sent["image_url"]["url"].startswith("file:///")
    assert counted["uploads"] == 0


def test_a_path_outside_the_shared_folder_also_through_a_link_is_sent_by_bytes(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "out.png").write_bytes(IMAGE)
    (tmp_path / "shared" / "link.png").symlink_to(tmp_path / "out.png")

    async def scene():
        server = Server()
        async with running(server, endpoints={"image_folder": str(tmp_path / "shared")}) as (proxy, _):
            await judge(proxy, [tmp_path / "out.png", tmp_path / "shared" / "link.png"])
            return images_of(server)

    assert [part["image_url"]["url"][:5] for part in asyncio.run(scene())] == ["data:"] * 2


def test_a_replica_that_cannot_read_our_paths_gets_bytes_from_then_on(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(IMAGE)

    async def scene():
        server = Server(reads=False)
        async with running(server, endpoints={"image_folder": str(tmp_path)}) as (proxy, _):
            judgements = [await judge(proxy, path, i) for i in range(2)]
            return [j.verdict for j in judgements], [part["image_url"]["url"][:5] for part in images_of(server)]

    assert asyncio.run(scene()) == ([1, 1], ["file:", "data:", "data:"])


@pytest.mark.parametrize("how", ["gone", "empty", "a folder", "bytes that are empty"])
def test_a_missing_image_has_its_own_cause_and_nothing_is_sent(tmp_path, how):
    path = tmp_path / "a.png"
    if how == "empty":
        path.touch()
    if how == "a folder":
        path.mkdir()

    async def scene():
        server = Server()
        async with running(server) as (proxy, _):
            judgement = await judge(proxy, b"" if how.startswith("bytes") else path)
            return judgement.cause, len(server.seen), proxy.snapshot()["unscored"]

    assert asyncio.run(scene()) == (Cause.IMAGE_MISSING, 0, {"image_missing": 1})


def test_a_file_is_read_once_for_many_callers_and_has_another_name_when_it_has_changed(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(IMAGE)
    reads = []
    encode = image_module._encode
    monkeypatch.setattr(image_module, "_encode", lambda image: reads.append(image) or encode(image))

    async def scene():
        encoder, before = Encoder(), identify(path, None)
        urls = await asyncio.gather(*(encoder.data_url(before) for _ in range(8)))
        urls.append(await encoder.data_url(identify(str(path), None)))
        path.write_bytes(IMAGE[::-1])
        os.utime(path, ns=(1, 1))
        after = identify(path, None)
        return set(urls), before.name != after.name, await encoder.data_url(after)

    urls, renamed, last = asyncio.run(scene())
    assert (len(reads), len(urls), renamed) == (2, 1, True)
    assert last not in urls


def test_the_cache_of_encoded_images_is_bounded_in_bytes(monkeypatch):
    reads = []
    monkeypatch.setattr(image_module, "_encode", lambda image: reads.append(image) or image)

    async def scene():
        encoder = Encoder(1000)
        for number in [*range(10), 7, 8, 9, 6]:
            await encoder.data_url(ImageRef(str(number), b"%d" % number * 300, None))
        await encoder.data_url(ImageRef("large", b"x" * 5000, None))
        return encoder._bytes, [int(image[:1]) for image in reads[10:-1]]

    assert asyncio.run(scene()) == (5000, [6])


def test_a_file_that_vanishes_between_the_call_and_its_turn_is_a_cause(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(IMAGE)

    async def behave(request, number):
        path.unlink(missing_ok=True)
        await asyncio.sleep(0.1)

    async def scene():
        async with running(Server(behave=behave), max_in_flight_per_replica=1) as (proxy, _):
            return await asyncio.gather(judge(proxy, IMAGE), judge(proxy, path))

    first, second = asyncio.run(scene())
    assert (first.verdict, second.cause) == (1, Cause.IMAGE_MISSING)
