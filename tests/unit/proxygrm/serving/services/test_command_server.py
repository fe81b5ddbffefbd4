"""A service that is a command line: what is refused, and a real small server under supervision."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from proxygrm.serving.access.held_port import free_port, is_taken_by_others
from proxygrm.serving.services.command import CommandProcess, CommandReplica, CommandServer
from proxygrm.serving.services.running import refuse_duplicates, running
from proxygrm.serving.services.server import wait_until_healthy
from proxygrm.serving.services.service import ServiceNode
from support.proxy.small_servers import impatient, wait_for  # noqa: F401
from support.refusals import refused

SERVER = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = {"pid": os.getpid(), "words": sys.argv[1:], "gpus": os.environ["CUDA_VISIBLE_DEVICES"]}
        said |= {name: value for name, value in os.environ.items() if name.startswith(("SERVICE_", "RAY_JOB", "MY_"))}
        self.send_response(503 if self.path == "/busy" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())
    def log_message(self, *words): pass
address = os.environ["SERVICE_ADDRESS"], int(os.environ["SERVICE_PORT"])
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


def service(*words: str, **settings: Any) -> CommandServer:
    return CommandServer(name="search", command=words or ("{python}", "-c", SERVER), **settings)


@contextmanager
def started(folder: Path, search: CommandServer, **inputs: Path) -> Iterator[CommandProcess]:
    replica = CommandReplica("search-0", "gpu-2", "127.0.0.1", folder / "search-0.log", key_file=folder / "key")
    process = CommandProcess(search, replica, inputs, "the key")
    process.start()
    try:
        yield process
    finally:
        process.stop()


def ask(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.loads(opener.open(url, timeout=60).read())


@pytest.mark.parametrize(
    ("code", "settings"),
    [
        ("service.bad-name", {"name": "Search engine"}),
        ("service.bad-name", {"name": ""}),
        ("service.bad-command", {"command": ()}),
        ("service.bad-command", {"command": ("",)}),
        ("service.bad-command", {"command": "python server.py"}),
        ("service.bad-command", {"command": ("server", "a\0b")}),
        ("service.bad-command", {"command": ("server", 8000)}),
        ("service.bad-health-path", {"health": "health"}),
        ("service.bad-health-path", {"health": "/is it up"}),
        ("service.bad-health-path", {"health": "/up\r\nX-Forged: 1"}),
        ("service.bad-variable", {"variables": {"A B": "1"}}),
        ("service.bad-variable", {"variables": {"": "1"}}),
        ("service.bad-variable", {"variables": {"WORKERS": 4}}),
        ("service.bad-variable", {"variables": {"MODE": "a\0b"}}),
        ("service.bad-variable", {"api_key_variable": ""}),
        ("service.bad-variable", {"api_key_variable": "A=B"}),
        ("service.bad-variable", {"api_key_variable": "PATH"}),
        ("service.bad-variable", {"api_key_variable": "SERVICE_PORT"}),
        ("service.bad-variable", {"api_key_variable": "MODE", "variables": {"MODE": "fast"}}),
        ("service.unknown-blank", {"command": ("server", "--port={prt}")}),
        ("service.reserved-label", {"needs": {"port": "/models/a"}}),
        ("service.secret-in-command", {"command": ("vllm", "serve", "--api-key", "k")}),
        ("service.secret-in-command", {"command": ("server", "--hf-token=k")}),
        ("settings.out-of-range", {"nodes": -1}),
        ("settings.out-of-range", {"gpus": -1}),
        ("settings.out-of-range", {"start_timeout_s": 0}),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(code: str, settings: dict[str, Any]) -> None:
    with refused(code):
        CommandServer(**{"name": "search", "command": ("server", "{port}"), **settings})


def test_braces_of_a_program_in_a_word_are_its_own() -> None:
    service(
        "{python}",
        "-c",
        "import sys; print(f'{sys}')",
        '{"image": 8}',
        "--max-tokens=64",
        "{model}",
        needs={"model": "/m"},
    )


def test_two_services_of_one_name_are_refused() -> None:
    with refused("service.duplicate-name", name="search"):
        refuse_duplicates([service(), service("other")])


def test_nodes_with_too_few_gpus_are_refused() -> None:
    nodes = [ServiceNode("a", "10.0.0.1", (0, 1))]
    service(gpus=2).validate(nodes, "cuda")
    with refused("service.too-few-gpus", needed=3, gpus=2):
        service(gpus=3).validate(nodes, "cuda")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = service("serch-server", "{port}")
    with refused("service.no-program", service="search", program="serch-server"):
        missing.check_program()
    service().check_program()
    died = refused("service.replica-failed", service="search", node="gpu-2", restarts=0)
    with started(tmp_path, missing) as process, died as caught:
        wait_until_healthy(lambda: [process.status()], 60)
    assert "there is no program 'serch-server'" in caught.value.values["detail"]


@pytest.mark.slow
def test_it_listens_where_it_is_told_and_has_the_key_in_its_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_ID", "1")
    words = ("{python}", "-c", SERVER, "{model}/config.json", "{address}:{port}", "{key_file}", "{unknown to us}")
    search = service(*words, needs={"model": ""}, variables={"MY_WAY": "1"})
    with started(tmp_path, search, model=Path("/models/a")) as process:
        wait_for(lambda: process.status().state == "healthy")
        said = ask(process.url)
        command_line = Path(f"/proc/{said['pid']}/cmdline").read_text()
        port = process.url.rpartition(":")[2]
    assert said.pop("pid")
    assert "the key" not in command_line
    assert said == {
        "words": ["/models/a/config.json", f"127.0.0.1:{port}", str(tmp_path / "key"), "{unknown to us}"],
        "gpus": "",
        "SERVICE_ADDRESS": "127.0.0.1",
        "SERVICE_PORT": port,
        "SERVICE_API_KEY": "the key",
        "MY_WAY": "1",
    }


@pytest.mark.slow
def test_one_that_dies_comes_back_at_the_same_url_until_its_restarts_are_used_up(tmp_path: Path) -> None:
    with started(tmp_path, service(max_restarts=1)) as process:
        wait_for(lambda: process.status().state == "healthy")
        url, first = process.url, ask(process.url)["pid"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: process.status().restarts == 1 and process.status().state == "healthy")
        assert process.url == url
        second = ask(url)["pid"]
        assert second != first
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: process.status().state == "failed")
        with refused("service.replica-failed", service="search", replica="search-0", node="gpu-2", restarts=1):
            wait_until_healthy(lambda: [process.status()], 5)


@pytest.mark.slow
def test_one_that_is_busy_when_its_time_is_over_says_what_it_answered(tmp_path: Path) -> None:
    with started(tmp_path, service(health="/busy")) as process:
        wait_for(lambda: "status" in process.status().detail)
        detail = f"{process.url}/busy answers with status 503"
        with refused("service.replica-late", service="search", node="gpu-2", healthy=0, replicas=1, detail=detail):
            wait_until_healthy(lambda: [process.status()], 0.5)


def test_a_port_of_another_user_is_noticed() -> None:
    port = free_port("127.0.0.1")
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", port))
        mine.listen()
        assert not is_taken_by_others(port)
        if os.getuid():
            return
        os.seteuid(65534)  # the kernel notes the user who opens the socket
        try:
            other = socket.socket()
        finally:
            os.seteuid(0)
        with other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            assert is_taken_by_others(other.getsockname()[1])


class Recorder:
    """A service that notes what is done to it."""

    def __init__(self, name: str, notes: list[str], fails: str = "") -> None:
        self.name, self.notes, self.fails = name, notes, fails
        self.urls, self.key_file = (), None

    def _note(self, what: str) -> None:
        self.notes.append(f"{what} {self.name}")
        if what == self.fails:
            raise RuntimeError(what)

    def start(self, here: Any) -> Recorder:
        self._note("start")
        return self

    def healthy(self, on_message: Any) -> None:
        self._note("healthy")

    def watch(self) -> str | None:
        return None

    def stop(self) -> None:
        self._note("stop")


@pytest.mark.parametrize(
    ("fails", "notes"),
    [
        ("", "start a, start b, healthy a, healthy b, work, stop b, stop a"),
        ("healthy", "start a, start b, healthy a, healthy b, stop b, stop a"),
        ("start", "start a, start b, stop a"),
    ],
)
def test_all_start_before_one_is_waited_for_and_all_that_started_are_stopped(fails: str, notes: str) -> None:
    done: list[str] = []
    watched: list[Any] = []
    services: list[Any] = [Recorder("a", done), Recorder("b", done, fails)]
    ends = pytest.raises(RuntimeError, match=fails) if fails else nullcontext()
    with ends, running(services, lambda service: service, watched.append, lambda line: None) as both:
        assert [*both] == ["a", "b"]
        done.append("work")
    assert ", ".join(done) == notes
    assert len(watched) == (0 if fails else 2)
