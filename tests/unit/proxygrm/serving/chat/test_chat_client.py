"""The chat client with real HTTP servers: what is sent, what is retried, and how failures are classified."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json

import pytest
from aiohttp import web

from proxygrm.serving.chat import connections as connections_module
from proxygrm.serving.chat.answer import NotAChat
from proxygrm.serving.chat.client import ChatClient
from proxygrm.serving.chat.connections import ChatConnections
from proxygrm.serving.chat.failures import ChatFailed, FailureKind, kind_of_status
from proxygrm.serving.chat.request import ChatRequest, data_url, image_part
from support.proxy.stub import Server, completion, stubs
from support.refusals import refused

BODY = ChatRequest.build("m", "Which is better?", max_tokens=8).body()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.01)


def complete(behave, attempts=3, body=BODY, **options):
    """The answer of a service that behaves so, and the requests that it got."""

    async def scene():
        server = Server(behave=behave)
        async with stubs(server) as (url,), ChatClient(url, 4, **{"timeout_s": 5.0, **options}) as client:
            try:
                answer = await client.complete(body, attempts)
            except ChatFailed as failure:
                answer = failure
            return answer, server.seen

    return asyncio.run(scene())


async def well(request, number):
    return completion("fine")


def test_the_body_has_the_images_first_the_prompt_last_and_every_setting():
    request = ChatRequest.build("m", 'a "prompt"', max_tokens=8, temperature=0.5, extra={"seed": 7})
    body = json.loads(request.body([image_part(data_url(b"x", "image/png")), image_part(b'"file:///a"', "u1")]))
    first, second, text = body["messages"][0]["content"]
    assert base64.b64decode(first["image_url"]["url"].removeprefix("data:image/png;base64,")) == b"x"
    assert (second["image_url"]["url"], second["uuid"]) == ("file:///a", "u1")
    assert text == {"type": "text", "text": 'a "prompt"'}
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("m", 8, 0.5, 7)


def test_the_key_is_sent_and_a_service_without_one_gets_no_header():
    _, (with_key,) = complete(well, api_key="secret")
    _, (without,) = complete(well)
    assert with_key["headers"]["Authorization"] == "Bearer secret"
    assert "Authorization" not in without["headers"]


@pytest.mark.parametrize(
    ("status", "kind", "reason", "attempts"),
    [
        (400, FailureKind.PROMPT, "refused_by_service", 1),
        (413, FailureKind.PROMPT, "refused_by_service", 1),
        (422, FailureKind.PROMPT, "refused_by_service", 1),
        (451, FailureKind.PROMPT, "refused_by_service", 1),
        (405, FailureKind.METHOD, "http_405", 1),
        (307, FailureKind.SERVER, "http_307", 3),
        (408, FailureKind.SERVER, "http_408", 3),
        (429, FailureKind.SERVER, "http_429", 3),
        (503, FailureKind.SERVER, "http_503", 3),
    ],
)
def test_a_status_is_retried_or_final_and_has_a_countable_reason(status, kind, reason, attempts):
    async def behave(request, number):
        return web.json_response({"error": {"message": "no\nmore"}}, status=status, headers={"Location": "/elsewhere"})

    failure, seen = complete(behave)
    assert kind_of_status(status) is kind
    assert (failure.kind, failure.reason, failure.status, failure.detail) == (kind, reason, status, "no more")
    assert len(seen) == attempts


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "chat.key-refused"), (402, "chat.no-credit"), (403, "chat.key-refused"), (404, "chat.not-found")],
)
@pytest.mark.parametrize("in_body", [False, True])
def test_what_concerns_every_prompt_is_a_user_error(status, code, in_body):
    async def behave(request, number):
        error = {"error": {"message": "no", "code": status}}
        return web.json_response(error, status=200 if in_body else status)

    with refused(code, status=status):
        complete(behave)


def test_failures_of_transport_are_retried_and_classified():
    async def closes(request, number):
        request.transport.close()

    async def hangs(request, number):
        await asyncio.sleep(30)

    async def babbles(request, number):
        request.transport.write(b"\x16\x03\x01 what is HTTP?\r\n\r\n")
        request.transport.close()

    async def not_a_chat(request, number):
        return web.json_response([])

    for behave, kind, options in (
        (closes, FailureKind.CONNECTION, {}),
        (hangs, FailureKind.TIMEOUT, {"timeout_s": 0.2}),
        (babbles, FailureKind.MALFORMED, {}),
        (not_a_chat, FailureKind.MALFORMED, {}),
    ):
        failure, seen = complete(behave, attempts=2, **options)
        assert (failure.kind, len(seen)) == (kind, 2)


def test_a_failure_that_ends_in_time_costs_nothing():
    async def behave(request, number):
        return completion("fine") if number > 2 else web.Response(status=500)

    answer, seen = complete(behave)
    assert (answer.text, len(seen)) == ("fine", 3)


def test_a_kept_connection_that_is_cut_as_it_is_reused_is_not_a_failed_attempt():
    async def behave(request, number):
        if number == 2:
            request.transport.close()
        return completion(str(number))

    async def scene():
        async with stubs(Server(behave=behave)) as (url,), ChatClient(url, 1, 5.0) as client:
            return [(await client.complete(BODY, 1)).text for _ in range(3)]

    assert asyncio.run(scene()) == ["1", "3", "4"]


def test_an_answer_without_end_is_malformed(monkeypatch):
    monkeypatch.setattr(connections_module, "MAX_ANSWER_BYTES", 1024**2)

    async def endless(request, number):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 65536)
        return response

    failure, _ = complete(endless, attempts=1)
    assert failure.kind is FailureKind.MALFORMED


def test_a_large_body_is_sent_in_full_and_reported_as_sent_before_the_response():
    events = []

    async def behave(request, number):
        events.append("received")
        return completion("fine")

    async def scene():
        body = ChatRequest.build("m", "x" * 3_000_000, max_tokens=8).body()
        async with stubs(Server(behave=behave)) as (url,), ChatConnections([url]) as connections:
            status, _ = await connections.post(
                f"{url}/v1/chat/completions", body, on_sent=lambda: events.append("sent")
            )
        return status

    assert asyncio.run(scene()) == 200
    assert events[0] == "sent"


def test_the_environments_http_proxy_is_ignored(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert complete(well, attempts=1)[0].text == "fine"


def test_a_user_and_password_in_the_url_are_the_authorization():
    async def scene():
        server = Server(behave=well)
        address = await server.start()
        async with ChatClient(address.replace("//", "//me:pass@"), 1, 5.0, api_key="key") as client:
            await client.complete(BODY, 1)
        await server.stop()
        return server.seen[0]["headers"]["Authorization"]

    assert asyncio.run(scene()) == "Basic " + base64.b64encode(b"me:pass").decode()


@pytest.mark.parametrize("endpoint", ["", "localhost:8000", "ftp://a", "http://", "http://a:port", "http://a:99999"])
def test_an_endpoint_that_is_not_a_url_is_refused(endpoint):
    with refused("chat.endpoint-not-a-url", endpoint=endpoint):
        complete_at(endpoint)


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "tab\t"])
def test_a_key_that_cannot_be_sent_is_refused(key):
    with refused("key.unusable"):
        complete_at("http://127.0.0.1:9", api_key=key)


def complete_at(endpoint, **options):
    async def scene():
        async with ChatClient(endpoint, 1, 1.0, **options) as client:
            await client.complete(BODY, 1)

    asyncio.run(scene())


def models(answer):
    """`check_model` of a service whose /v1/models gives this answer."""

    async def handle(request):
        return answer()

    async def scene():
        app = web.Application()
        app.router.add_get("/v1/models", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with ChatClient(f"http://127.0.0.1:{runner.addresses[0][1]}", 1, 2.0, role="judge") as client:
                await client.check_model("m", attempts=2)
        finally:
            await runner.cleanup()

    asyncio.run(scene())


def test_a_service_is_checked_for_the_key_and_the_model_before_any_prompt():
    models(lambda: web.json_response({"data": [{"id": "m"}]}))
    models(lambda: web.json_response({"data": "unlisted"}))
    models(lambda: web.Response(status=404))  # not every service lists its models
    with refused("chat.model-not-served", model="m", served=["n"]):
        models(lambda: web.json_response({"data": [{"id": "n"}]}))
    with refused("chat.key-refused", status=401):
        models(lambda: web.Response(status=401))
    with refused("chat.no-answer", reason="HTTP 503"):
        models(lambda: web.Response(status=503))


def test_the_status_in_a_body_that_is_not_a_chat_decides_about_another_attempt():
    async def busy(request, number):
        return web.json_response({"error": {"message": "slow down", "code": 429}})

    async def too_long(request, number):
        return web.json_response({"error": {"message": "long", "code": "context_length_exceeded"}})

    failure, seen = complete(busy)
    assert (failure.reason, len(seen)) == ("http_429", 3)
    failure, seen = complete(too_long)
    assert (failure.reason, str(failure), len(seen)) == ("refused_by_service", "refused_by_service: HTTP 400: long", 1)
    assert NotAChat("x").status == 0


def test_certificate_authorities_are_known_where_the_machine_has_none(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert connections_module._tls.__wrapped__().cert_store_stats()["x509_ca"] > 50
