"""Requests that are half sent: they are ended, and do not shut out callers with a key. Real servers, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from proxygrm.serving.access import connections
from proxygrm.serving.access.callers import THIS_MACHINE
from proxygrm.serving.access.connections import AuthorizeAll, LimitedProtocol
from proxygrm.serving.access.guard import RequireKey
from proxygrm.serving.endpoints import Endpoints

pytestmark = pytest.mark.slow

HERE = "127.0.0.1"
HALF_HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nX-Fi"
SLOW_BODY = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n{"
UPGRADE = (
    b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
)
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
KEY = b"Authorization: Bearer key\r\n"


class App:
    """Reads the complete body, waits at /slow, and answers with the length of the body."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.waiting = threading.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return
        read, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            read, more = read + len(message["body"]), message["more_body"]
        if scope["path"] == "/slow":
            self.waiting.set()
            while not self.may_answer.is_set():
                await asyncio.sleep(0.01)
        body = str(read).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def serving(app, loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> Iterator[int]:
    """The port of a server of this application with the limits."""
    config = uvicorn.Config(app, http=LimitedProtocol, log_level="critical", lifespan="off", timeout_keep_alive=3600)
    server = uvicorn.Server(config)
    with socket.create_server((HERE, 0)) as listening:

        def run() -> None:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(server.serve([listening]))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join(60)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    """vLLM's server runs on uvloop, which only vLLM installs."""
    return pytest.importorskip(request.param).new_event_loop


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(connections, "SWEEP_S", 0.1)
    monkeypatch.setattr(connections, "UNAUTHORIZED_S", 0.5)
    monkeypatch.setattr(connections, "WINDOW_S", 0.5)


def connected(port: int, data: bytes = b"") -> socket.socket:
    peer = socket.create_connection((HERE, port), timeout=120)
    peer.sendall(data)
    return peer


def ended(peer: socket.socket) -> bytes:
    """What it receives until the server ends the connection; TimeoutError when it does not."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while more := peer.recv(65536):
            received += more
    return received


def answer(peer: socket.socket) -> bytes:
    """One complete response."""
    received = b""
    while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < length(received):
        more = peer.recv(65536)
        assert more, received
        received += more
    return received


def length(response: bytes) -> int:
    match = re.search(rb"content-length: (\d+)", response)
    return int(match[1]) if match else 0


def status(port: int, key: str | None = "key", path: str = "/", body: bytes | None = None) -> int:
    request = urllib.request.Request(f"http://{HERE}:{port}{path}", data=body)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(request, timeout=120).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("sent", "response"),
    [
        (b"", b""),
        (HALF_HEAD, b""),
        (SLOW_BODY, b"HTTP/1.1 401"),
        (HEALTH, b"HTTP/1.1 200"),
        (HEALTH + HALF_HEAD, b"HTTP/1.1 200"),
        (HEALTH * 2 + b"\r\n", b"HTTP/1.1 200"),
        (b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n", b"HTTP/1.1 401"),
        (b"GET /v1/realtime HTTP/1.1\r\n" + UPGRADE + b"\r\n", b"HTTP/1.1 401"),
        (b"GET /v1/realtime HTTP/1.1\r\n" + UPGRADE, b""),
    ],
)
def test_a_connection_without_the_key_is_closed_after_a_short_time_whatever_it_has_sent(loop, sent, response):
    with serving(RequireKey(App(), "key"), loop) as port, connected(port, sent) as peer:
        received = ended(peer)
        assert received[: len(response) or None] == response
        assert status(port) == 200


def dropped(peer: socket.socket) -> bool:
    """Is it closed, although it continues to send?"""
    peer.settimeout(0.02)
    try:
        for _ in range(1000):
            peer.send(b"x")
            with contextlib.suppress(TimeoutError):
                if not peer.recv(65536):
                    return True
    except ConnectionError:
        return True
    return False


@pytest.mark.usefixtures("impatient")
def test_bytes_that_trickle_in_do_not_give_an_unauthorized_connection_more_time(loop):
    with serving(RequireKey(App(), "key"), loop) as port:
        for data in (HALF_HEAD, SLOW_BODY):
            with connected(port, data) as peer:
                assert dropped(peer)


@pytest.mark.usefixtures("impatient")
def test_a_caller_with_the_key_that_stops_in_mid_request_is_dropped_and_one_that_waits_for_its_answer_is_not(loop):
    app, request = App(), b"GET / HTTP/1.1\r\nHost: x\r\n" + KEY + b"\r\n"
    with serving(RequireKey(app, "key"), loop) as port, connected(port, request.replace(b"/", b"/slow", 1)) as waiting:
        assert app.waiting.wait(60)
        with connected(port, SLOW_BODY.replace(b"\r\n\r\n", b"\r\n" + KEY + b"\r\n")) as slow:
            assert ended(slow) == b""
        with connected(port, request) as slow:
            assert answer(slow).startswith(b"HTTP/1.1 200")
            slow.sendall(HALF_HEAD)
            assert ended(slow) == b""
        app.may_answer.set()
        assert answer(waiting).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("impatient")
def test_callers_that_need_no_key_are_authorized_but_have_to_finish_their_requests_too(loop):
    for app in (RequireKey(App(), "key", THIS_MACHINE), AuthorizeAll(App())):
        with serving(app, loop) as port:
            for data in (HALF_HEAD, SLOW_BODY):
                with connected(port, data) as peer:
                    assert ended(peer) == b""
            assert status(port, key=None, body=b"x" * 1_000_000) == 200


@pytest.mark.usefixtures("impatient")
def test_time_in_which_the_server_does_not_read_does_not_count_against_the_caller():
    app, size = App(), 20_000_000

    async def late(scope, receive, send):
        scope["extensions"]["proxygrm.connection"].authorize()
        while not app.may_answer.is_set():
            await asyncio.sleep(0.01)
        await app(scope, receive, send)

    with serving(late) as port, connected(port, SLOW_BODY.replace(b"10000000", b"%d" % size)) as caller:
        sending = threading.Thread(target=caller.sendall, args=(b"x" * (size - 1),))
        sending.start()
        with connected(port, HALF_HEAD) as other:  # when this one is dropped, the other has lasted as long
            ended(other)
        app.may_answer.set()
        sending.join(60)
        assert answer(caller).endswith(b"\r\n\r\n%d" % size)


def test_unauthorized_connections_of_one_peer_are_limited_and_the_oldest_are_closed_first(loop, monkeypatch):
    monkeypatch.setattr(connections, "SWEEP_S", 0.1)
    monkeypatch.setattr(connections, "UNAUTHORIZED_PER_PEER", (5, 5))
    with serving(RequireKey(App(), "key"), loop) as port, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connected(port, HALF_HEAD)) for _ in range(20)]
        for peer in peers[:15]:
            assert ended(peer) == b""
        for peer in peers[15:]:
            peer.sendall(b"nd: x\r\n\r\n")
            assert answer(peer).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(("files", "served"), [(16_384, 100), (1024, 64)])
def test_a_caller_that_opens_many_connections_before_it_sends_may_keep_as_many_as_there_are_files_for(
    monkeypatch, files, served
):
    swept, sweeps = threading.Event(), []
    sweep = connections._Watch._sweep

    def counted(watch):
        sweeps.extend([None] if watch._loop.time() - watch._sweep_at <= connections.SWEEP_S else [])
        sweep(watch)
        if len(sweeps) >= enough:
            swept.set()

    enough = sys.maxsize
    monkeypatch.setattr(connections, "SWEEP_S", 0.1)
    monkeypatch.setattr(connections._Watch, "_sweep", counted)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    with serving(RequireKey(App(), "key")) as port, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connected(port)) for _ in range(100)]
        enough = len(sweeps) + 3  # by then they all have lasted
        assert swept.wait(60)
        answered = []
        for peer in peers:
            with contextlib.suppress(ConnectionError):
                peer.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + KEY + b"Content-Length: 1\r\n\r\n1")
                answered.append(peer.recv(12) == b"HTTP/1.1 200")
        assert sum(answered) == served


def test_a_head_without_end_is_refused_and_trailers_are_not_kept(loop):
    with serving(RequireKey(App(), "key"), loop) as port:
        with connected(port) as peer:
            with contextlib.suppress(ConnectionError):
                peer.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000)
            assert ended(peer)[:12] in (b"HTTP/1.1 400", b"")
        with connected(port) as peer:
            peer.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + KEY + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
            peer.sendall(b"authorization: none\r\n\r\n")
            assert answer(peer).endswith(b"\r\n\r\n1")


def test_a_head_of_a_usual_length_is_served(loop):
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 30_000 + b"\r\n" + KEY + b"\r\n"
    with serving(RequireKey(App(), "key"), loop) as port, connected(port, head) as peer:
        assert answer(peer).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("files", [128, 4096])
@pytest.mark.parametrize("data", [HALF_HEAD, SLOW_BODY, b""], ids=["heads", "bodies", "silent"])
def test_two_hundred_half_requests_at_a_front_end_do_not_shut_out_a_caller_with_the_key(tmp_path, data, files):
    file = Endpoints((f"http://{HERE}:9",), "key").write(tmp_path / "endpoints.json")
    command = [sys.executable, "-m", "jobs", "proxy", "front", "--endpoints", str(file), "--key-file", tmp_path / "key"]
    few_files = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)"
    limited = [sys.executable, "-c", f"{few_files}; os.execv(sys.argv[2], sys.argv[2:])", str(files), *command]
    process = subprocess.Popen(limited, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[5])
    try:
        port = int(process.stdout.readline().split()[2].rsplit(":", 1)[1])
        key = (tmp_path / "key").read_text().strip()
        assert status(port, key, "/metrics") == 200  # it is up
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connected(port, data))
            for _ in range(20):
                assert status(port, key, "/metrics") == 200
            assert status(port, "wrong", "/metrics") == 401
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def test_importing_the_middleware_gives_vllms_server_the_limits():
    with_middleware = (
        "import json, uvicorn, proxygrm.serving.replicas.inside_vllm as it; "
        "config = uvicorn.Config(None); config.load();"
        "print(json.dumps([config.http_protocol_class.__name__, it.RequireKey.__name__]))"
    )
    without = "import uvicorn; c = uvicorn.Config(None); c.load(); print(c.http_protocol_class.__name__)"
    run = {"capture_output": True, "text": True, "check": True, "cwd": Path(__file__).parents[5]}
    assert json.loads(subprocess.run([sys.executable, "-c", with_middleware], **run).stdout) == [
        "LimitedProtocol",
        "RequireKey",
    ]
    assert subprocess.run([sys.executable, "-c", without], **run).stdout == "HttpToolsProtocol\n"


def test_a_server_raises_its_limit_of_open_files():
    script = (
        "import resource as r; from proxygrm.serving.access.connections import allow_many_files as a;"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 900)); a(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 900
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "(900, 900)\n"
