"""Another user takes a replica's port: before its server has it, or after the server has died. He runs as another uid
here, answers whatever he is asked as a replica would, with his own verdict, and writes down what he was sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, Request

from proxygrm.core.errors import UserError
from proxygrm.serving.access.connections import LimitedProtocol
from proxygrm.serving.access.guard import RequireKey
from proxygrm.serving.access.held_port import hold
from proxygrm.serving.access.proof import is_proof, proof
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient
from proxygrm.serving.pool.routing import Cause
from proxygrm.serving.replicas.server import ReplicaServer
from support.proxy.small_servers import HTTP_SERVER, impatient, small_server, spec, wait_for  # noqa: F401
from support.proxy.stub import Server

KEY = "the-job's-key"
PAIR = ("What colour?", "Red.", "Blue.", "Names the colour (100%)")
HERE = "127.0.0.1"
NOBODY = 65534
foreign = pytest.mark.skipif(os.getuid() != 0, reason="another user's process can be had as root only")

BECOME_ANOTHER = f"""
import encodings.idna, os
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
"""  # in the process itself, because another user may not be allowed to read our interpreter

SQUATTER = """
import http.server, json, sys
BECOME_ANOTHER
class Squatter(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print(self.path, dict(self.headers), body, file=sys.stderr, flush=True)
        said = {"choices": [{"message": {"content": "<answer>2</answer>"}, "finish_reason": "stop"}]}
        answer = json.dumps(said).encode() if body else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("X-Proxygrm-Proof", "0" * 64)
        self.end_headers()
        self.wfile.write(answer)
    do_GET = do_POST
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Squatter)
print("has it", flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def squatter(port: int, seen: Path, script: str = SQUATTER, *arguments: str) -> Iterator[None]:
    """Another user's server at the port; `seen` gets what it was sent."""
    with seen.open("wb") as log:
        command = [sys.executable, "-S", "-E", "-c", script.replace("BECOME_ANOTHER", BECOME_ANOTHER), str(port)]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=log, cwd="/")
        try:
            assert process.stdout.readline() == b"has it\n", seen.read_text()
            yield
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def unused_port() -> int:
    with bind(0) as free:
        return free.getsockname()[1]


def bind(port: int, address: str = HERE, **options: int) -> socket.socket:
    made = socket.socket()
    try:
        for name in options:
            made.setsockopt(socket.SOL_SOCKET, getattr(socket, name), 1)
        made.bind((address, port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


def another_user_can_bind(port: int, address: str, options: dict[str, int]) -> bool:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            bind(port, address, **options)
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


# ---- the port before vLLM has it


@foreign
@pytest.mark.parametrize("address", [HERE, "0.0.0.0"])
@pytest.mark.parametrize(
    "options", [{}, {"SO_REUSEADDR": 1}, {"SO_REUSEPORT": 1}, {"SO_REUSEADDR": 1, "SO_REUSEPORT": 1}]
)
def test_nobody_else_can_take_a_held_port_while_the_model_loads_or_after_it_died(tmp_path, address, options):
    one = ReplicaServer(spec(tmp_path), KEY)
    try:
        assert not another_user_can_bind(one.port, address, options)
        with bind(one.port, SO_REUSEADDR=1, SO_REUSEPORT=1):  # as vLLM does
            assert not another_user_can_bind(one.port, address, options)
        assert not another_user_can_bind(one.port, address, options)
    finally:
        one.stop()
    assert another_user_can_bind(one.port, address, options)


def test_a_port_that_is_asked_for_is_not_shared_with_another_server_of_ones_own(tmp_path):
    with hold(HERE) as held:
        port = held.getsockname()[1]
        with pytest.raises(UserError, match=rf"proxy-0 cannot have 127.0.0.1 port {port}: Address already in use"):
            ReplicaServer(spec(tmp_path), KEY, port=port)
    with bind(0, SO_REUSEADDR=1, SO_REUSEPORT=1) as listening, pytest.raises(OSError, match="in use"):
        hold(HERE, listening.getsockname()[1])


def test_a_port_can_be_held_again_right_after_its_server_has_ended():
    with hold(HERE) as held:
        port = held.getsockname()[1]
        with bind(port, SO_REUSEADDR=1, SO_REUSEPORT=1) as listening, socket.create_connection((HERE, port)) as caller:
            served = listening.accept()[0]
            served.close()  # first, so that this end is the one that waits (TIME_WAIT)
            assert caller.recv(1) == b""
    hold(HERE, port).close()


# ---- health


@foreign
@pytest.mark.usefixtures("impatient")
def test_whoever_answers_health_without_the_key_is_not_healthy_and_does_not_see_the_key(tmp_path):
    one = ReplicaServer(spec(tmp_path), KEY, small_server("import time; time.sleep(60)"))
    one._port_holder.close()  # as if the kernel had let him
    with squatter(one.port, tmp_path / "seen"):
        one.start()
        try:
            wait_for(lambda: "does not hold the key" in one.status().detail)
            assert one.status().state == "starting"
        finally:
            one.stop()
    seen = (tmp_path / "seen").read_text()
    assert "/proof" in seen
    assert KEY not in seen


@pytest.mark.usefixtures("impatient")
def test_a_server_that_dies_between_its_proof_and_its_health_is_not_asked_over_another_connection(tmp_path):
    script = HTTP_SERVER.replace('protocol_version = "HTTP/1.1"', "").replace(
        "class Handler(Proving):", 'class Handler(Proving):\n    protocol_version = "HTTP/1.0"'
    )  # which closes after each answer
    one = ReplicaServer(spec(tmp_path), KEY, small_server(script))
    one.start()
    try:
        wait_for(lambda: socket.socket().connect_ex((HERE, one.port)) == 0)
        assert not one._answers()
        assert one.status().state == "starting"
    finally:
        one.stop()


# ---- clients


class Replica:
    """What stands in for vLLM here: its guard and protocol over an application that answers chats with verdict 1."""

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
    client = ProxyClient(Endpoints(urls, KEY, max_tokens=64, proven=True), **{"timeout_s": 20.0, **options})
    try:
        yield client
    finally:
        await client.aclose()


def test_a_real_replica_proves_itself_once_a_connection_and_not_once_a_request():
    async def scene():
        async with Replica() as replica, client_of(replica.url) as client:
            for _ in range(5):
                assert (await client.judge(*PAIR)).verdict == 1
            assert (await client.alive()) == {replica.url: False}  # 404: proven, but this one has no /health
        return replica.chats, replica.proofs

    assert asyncio.run(scene()) == (5, 1)


@foreign
def test_whoever_takes_a_dead_replicas_port_gets_neither_key_nor_question_and_his_verdict_does_not_count(tmp_path):
    async def scene():
        async with Replica() as replica, client_of(replica.url) as client:
            assert (await client.judge(*PAIR)).verdict == 1
            port = replica.port
        async with client_of(replica.url) as late:  # and one that has never met the real one
            with squatter(port, tmp_path / "seen"):
                found = [await client.judge(*PAIR, label=2) for client in (client, late)]
                assert await late.alive() == {replica.url: False}
            async with Replica(port):
                found.append(await late.judge(*PAIR))
        return found

    *robbed, after = asyncio.run(scene())
    assert [(found.verdict, found.agrees, found.cause) for found in robbed] == [(None, None, Cause.UNPROVEN)] * 2
    assert after.verdict == 1
    seen = (tmp_path / "seen").read_text()
    assert "/proof" in seen
    for secret in (KEY, "Authorization", "What colour?", "/v1/chat"):
        assert secret not in seen


@foreign
def test_a_squatters_share_of_the_calls_goes_to_the_replicas_that_are_real(tmp_path):
    async def scene():
        port = unused_port()
        with squatter(port, tmp_path / "seen"):
            async with Replica() as replica, client_of(f"http://{HERE}:{port}", replica.url) as client:
                found = [await client.judge(f"{i}?", *PAIR[1:]) for i in range(12)]
                return {one.verdict for one in found}, {one.replica for one in found} - {replica.url}

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
print("has it", flush=True)
while True:
    caller = listening.accept()[0]
    real = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    threading.Thread(target=pump, args=(caller, real), daemon=True).start()
    threading.Thread(target=pump, args=(real, caller), daemon=True).start()
"""


@foreign
def test_the_proof_of_a_real_replica_cannot_be_handed_on(tmp_path):
    async def scene():
        port = unused_port()
        async with Replica() as replica:
            with squatter(port, tmp_path / "seen", RELAY, str(replica.port)):
                async with client_of(f"http://{HERE}:{port}") as client:
                    return await client.judge(*PAIR), replica.proofs, replica.chats

    found, proofs, chats = asyncio.run(scene())
    assert (found.verdict, found.cause, chats) == (None, Cause.UNPROVEN, 0)
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
def test_an_answer_that_is_no_proof_ends_the_connection_before_the_key_is_sent(answer):
    heard = []

    def serve(listening):
        with contextlib.suppress(OSError):
            while True:
                with listening.accept()[0] as caller:
                    heard.append(caller.recv(65536))
                    caller.sendall(answer)
                    while more := caller.recv(65536):
                        heard.append(more)

    async def scene():
        with bind(0) as listening:
            threading.Thread(target=serve, args=(listening,), daemon=True).start()
            async with client_of(f"http://{HERE}:{listening.getsockname()[1]}") as client:
                found = await client.judge(*PAIR)
            listening.shutdown(socket.SHUT_RDWR)
        return found

    found = asyncio.run(scene())
    assert (found.verdict, found.cause) == (None, Cause.UNPROVEN)
    assert heard
    assert {line.split(b" ")[1] for line in heard} == {b"/proof"}


def test_a_server_of_somebody_else_is_asked_without_a_proof():
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
    said = proof("k", "ab", here, there)
    assert is_proof(said, "k", "ab", ("::ffff:10.0.0.1", 9000), there)
    others = [("K", "ab", here, there), ("k", "ac", here, there), ("k", "ab", there, here)]
    others += [("k", "ab", ("10.0.0.1", 9001), there), ("k", "ab", here, ("10.0.0.2", 41001))]
    assert not any(is_proof(said, *other) for other in others)
    assert not is_proof("é", "k", "ab", here, there)
