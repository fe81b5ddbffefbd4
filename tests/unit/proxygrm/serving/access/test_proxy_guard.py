from __future__ import annotations

import asyncio

import httpx
import pytest

from proxygrm.serving.access.guard import RequireKey

pytestmark = pytest.mark.slow


async def anything(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


def ask(path: str, authorization: str | None, method: str = "POST") -> httpx.Response:
    async def scene():
        transport = httpx.ASGITransport(app=RequireKey(anything))
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
            headers = {} if authorization is None else {"Authorization": authorization.encode()}
            return await client.request(method, path, headers=headers)

    return asyncio.run(scene())


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "k-1")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/invocations", "/tokenize", "/metrics", "//v1/models", "/"])
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer k-", "Bearer k-11", "k-1", "Bearer é"]
)
def test_every_path_requires_the_key(path, authorization):
    response = ask(path, authorization)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert ask(path, "Bearer k-1").text == "served"


def test_other_methods_require_it_too():
    assert ask("/v1/chat/completions", None, "OPTIONS").status_code == 401


@pytest.mark.parametrize("path", ["/health/", "/health/../v1", "/Health"])
def test_health_alone_is_open(path):
    assert ask("/health", None, "GET").text == "served"
    assert ask(path, None, "GET").status_code == 401


def test_a_websocket_without_the_key_is_closed():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": []}
    asyncio.run(RequireKey(anything)(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_server_without_a_key_does_not_start(monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY")
    with pytest.raises(RuntimeError, match="VLLM_API_KEY"):
        RequireKey(anything)
