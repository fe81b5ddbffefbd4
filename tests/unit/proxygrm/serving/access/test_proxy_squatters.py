"""Another user's server at the address of a replica gets neither the key nor a question, and its verdict does not
count."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest
import uvicorn
from fastapi import FastAPI, Request

from proxygrm.serving.access.connections import LimitedProtocol
from proxygrm.serving.access.guard import RequireKey
from proxygrm.serving.access.proof import is_proof, proof
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.pool.routing import Cause
from support.proxy.squatters import HERE, bind, foreign, squatter
from support.proxy.stub import Server

pytestmark = pytest.mark.slow

KEY = "the-job's-key"
PAIR = ("What colour?", "Red.", "Blue.", "Names the colour (100%)")


class Replica:
    """In place of vLLM: its guard and protocol over an application that answers chats with verdict 1."""

    def __init__(self, port: int = 0) -> None:
        self.proofs, self.chats = 0, 0
        self._socket = bind(port, SO_REUSEADDR=1)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://{HERE}:{self.port}"

    async def __aenter__(self) -> Replica:
        app = FastAPI()

        async def chat(request: Request) -> dict:
            await request.json()
            self.chats += 1
            message = {"message": {"content": "<think>so</think><answer>1</answer>"}, "finish_reason": "stop"}
            return {"choices": [message]}

        chat.__annotations__ = {"request": Request}
        app.post("/v1/chat/completions")(chat)
        guarded = RequireKey(app, KEY)

        async def counted(scope, receive, send):
            self.proofs += scope.get("path") == "/proof"
            await guarded(scope, receive, send)

        self._server = uvicorn.Server(uvicorn.Config(counted, http=LimitedProtocol, log_level="critical"))
        self._task = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        await self._task
        self._socket.close()


@contextlib.asynccontextmanager
async def client_of(*urls: str, **options):
    client = ProxyClient(Endpoints(urls, KEY, max_tokens=64, proven=True), **{"timeout_s": 60.0, **options})
    try:
        yield client
    finally:
        await client.aclose()


def test_a_real_replica_proves_itself_once_a_connection_and_not_once_a_request():
    async def scene():
        async with Replica() as replica, client_of(replica.url) as client:
            for _ in range(5):
                assert (await client.judge(*PAIR)).verdict == 1
            assert (await client.health()) == {replica.url: False}  # 404: proven, but this one has no /health
        return replica.chats, replica.proofs

    assert asyncio.run(scene()) == (5, 1)


@foreign
def test_a_squatter_at_a_dead_replicas_port_gets_neither_key_nor_question_and_its_verdict_does_not_count(
    tmp_path,
):
    async def scene():
        async with Replica() as replica, client_of(replica.url) as client:
            assert (await client.judge(*PAIR)).verdict == 1
            port = replica.port
        async with client_of(replica.url) as late:  # a client that has never been connected to the real replica
            with squatter(port, tmp_path / "seen"):
                judgements = [await client.judge(*PAIR, label=2) for client in (client, late)]
                assert await late.health() == {replica.url: False}
            async with Replica(port):
                judgements.append(await late.judge(*PAIR))
        return judgements

    *squatted, after = asyncio.run(scene())
    assert [(j.verdict, j.agrees, j.cause) for j in squatted] == [(None, None, Cause.UNPROVEN)] * 2
    assert after.verdict == 1
    seen = (tmp_path / "seen").read_text()
    assert "/proof" in seen
    for secret in (KEY, "Authorization", "What colour?", "/v1/chat"):
        assert secret not in seen


@foreign
def test_a_squatters_share_of_the_calls_goes_to_the_real_replicas(tmp_path):
    async def scene():
        with squatter(0, tmp_path / "seen") as port:
            async with Replica() as replica, client_of(f"http://{HERE}:{port}", replica.url) as client:
                judgements = [await client.judge(f"{i}?", *PAIR[1:]) for i in range(12)]
                return {j.verdict for j in judgements}, {j.replica for j in judgements} - {replica.url}

    assert asyncio.run(scene()) == ({1}, set())
    assert KEY not in (tmp_path / "seen").read_text()


RELAY = """
import socket, sys, threading
BECOME_ANOTHER
def pump(source, sink):
    while data := source.recv(65536):
        print(data, file=sys.stderr, flush=True)
        sink.sendall(data)
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", listening.getsockname()[1], flush=True)
while True:
    caller = listening.accept()[0]
    real = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    threading.Thread(target=pump, args=(caller, real), daemon=True).start()
    threading.Thread(target=pump, args=(real, caller), daemon=True).start()
"""


@foreign
def test_the_proof_of_a_real_replica_cannot_be_passed_on(tmp_path):
    async def scene():
        async with Replica() as replica:
            with squatter(0, tmp_path / "seen", RELAY, str(replica.port)) as port:
                async with client_of(f"http://{HERE}:{port}") as client:
                    return await client.judge(*PAIR), replica.proofs, replica.chats

    judgement, proofs, chats = asyncio.run(scene())
    assert (judgement.verdict, judgement.cause, chats) == (None, Cause.UNPROVEN, 0)
    assert proofs > 0
    assert KEY not in (tmp_path / "seen").read_text()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Proxygrm-Proof: \xff\xfe\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"\r\n\r\n",
        b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    ],
)
def test_a_response_without_a_proof_ends_the_connection_before_the_key_is_sent(answer):
    received = []

    def serve(listening):
        with contextlib.suppress(OSError):  # of accept: the test is over
            while True:
                with listening.accept()[0] as caller, contextlib.suppress(ConnectionError):
                    received.append(caller.recv(65536))
                    caller.sendall(answer)  # may be cut off by a client that has seen enough
                    while more := caller.recv(65536):
                        received.append(more)

    async def scene():
        with bind(0) as listening:
            threading.Thread(target=serve, args=(listening,), daemon=True).start()
            async with client_of(f"http://{HERE}:{listening.getsockname()[1]}") as client:
                judgement = await client.judge(*PAIR)
            listening.shutdown(socket.SHUT_RDWR)
        return judgement

    judgement = asyncio.run(scene())
    assert (judgement.verdict, judgement.cause) == (None, Cause.UNPROVEN)
    assert received
    assert {line.split(b" ")[1] for line in received} == {b"/proof"}


def test_a_server_given_by_url_is_asked_without_a_proof():
    async def scene():
        server = Server()
        url = await server.start()
        try:
            endpoints = Endpoints.of_urls([url], "proxy", None, 64, 4)
            client = ProxyClient(endpoints)
            try:
                return (await client.judge(*PAIR)).verdict, endpoints.proven
            finally:
                await client.aclose()
        finally:
            await server.stop()

    assert asyncio.run(scene()) == (1, False)


def test_a_proof_is_of_one_key_one_nonce_and_both_ends_of_one_connection():
    here, there = ("10.0.0.1", 9000), ("10.0.0.2", 41000)
    answer = proof("k", "ab", here, there)
    assert is_proof(answer, "k", "ab", ("::ffff:10.0.0.1", 9000), there)
    others = [("K", "ab", here, there), ("k", "ac", here, there), ("k", "ab", there, here)]
    others += [("k", "ab", ("10.0.0.1", 9001), there), ("k", "ab", here, ("10.0.0.2", 41001))]
    assert not any(is_proof(answer, *other) for other in others)
    assert not is_proof("é", "k", "ab", here, there)
