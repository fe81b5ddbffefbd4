"""How pictures reach the replicas: by path, once in full and then by name, or in full."""

from __future__ import annotations

import asyncio
import base64
import os

import pytest
from proxy_stub import Server, running

from proxygrm.proxy import picture as picture_module
from proxygrm.proxy.picture import Encoder, Shown, identify
from proxygrm.proxy.routing import Cause

PICTURE = b"\x89PNG" + bytes(range(256)) * 4000  # a body of several chunks
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
