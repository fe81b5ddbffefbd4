"""The front end as a real HTTP server, with stub replicas behind it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import subprocess
import sys

import httpx
import pytest
from aiohttp import web
from PIL import Image

from proxygrm.serving.access.key_file import read_or_make_key
from proxygrm.serving.endpoints import Endpoints
from support.proxy.front_calls import ASKED, RUBRIC, ask, front_end
from support.proxy.stub import Server, completion, stubs, until
from support.refusals import refused

pytestmark = pytest.mark.slow

CRITIQUE = "<rubric>Names the colour (100%)<justify>it asks</justify></rubric><eval>1 does</eval><answer>1</answer>"


@pytest.mark.parametrize(("answer", "verdict", "reward"), [("1", "1", 1.0), (2, "1", -1.0), (2, "2", 1.0)])
def test_upstreams_api_gives_plus_or_minus_one_for_agreement_with_the_answer(answer, verdict, reward):
    response = ask(lambda http: http.post("/get_reward_mllm", json={**ASKED, "answer": answer}), Server(verdict))
    assert (response.status_code, response.json()) == (200, {"reward": reward})


def test_the_proxy_is_shown_chosen_as_response_1_and_only_the_rubric_of_a_critique():
    server = Server()
    ask(lambda http: http.post("/get_reward_mllm", json={**ASKED, "rubric": CRITIQUE, "image": ""}), server)
    text = server.seen[0]["body"]["messages"][0]["content"][-1]["text"]
    assert text.index("Red.") < text.index("Blue.") < text.index("Names the colour")
    assert "it asks" not in text
    assert "1 does" not in text


@pytest.mark.parametrize("how", ["babbles", "500", "cut off"])
def test_no_verdict_is_503_with_its_cause_and_never_a_reward(how):
    async def behave(request, number):
        if how == "500":
            return web.Response(status=500)
        return completion("Response 1, I think.", "length" if how == "cut off" else "stop")

    response = ask(lambda http: http.post("/get_reward_mllm", json=ASKED), Server(behave=behave), timeout_s=60.0)
    assert response.status_code == 503
    assert response.json()["error"]["cause"] == {"babbles": "unparsed", "500": "http_error", "cut off": "cut_off"}[how]
    assert "reward" not in response.json()


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"answer": "1/2"}, "answer"),
        ({"answer": 0}, "answer"),
        ({"answer": True}, "answer"),
        ({"chosen": ""}, "chosen"),
        ({"question": None}, "question"),
        ({"rubric": "no tags at all"}, "no closed <rubric>"),
        ({"rubric": "<rubric>never closed <eval>1</eval><answer>1</answer>"}, "no closed <rubric>"),
        ({"image": "http://169.254.169.254/latest"}, "not fetched"),
        ({"image": "/etc/passwd"}, "outside the folder"),
        ({"image": "../../x.png"}, "outside the folder"),
        ({"image": "a\0b"}, "not a path"),
        ({"image": "data:image/png;base64,***"}, "not base64"),
        ({"image": "data:image/png,plain"}, "base64"),
    ],
)
def test_an_invalid_request_is_422_with_what_is_wrong_and_is_not_sent(tmp_path, change, detail):
    server = Server()
    response = ask(lambda http: http.post("/get_reward_mllm", json={**ASKED, **change}), server, images=tmp_path)
    assert response.status_code == 422
    assert detail in response.json()["error"]["detail"]
    assert server.seen == []


def test_bodies_that_are_not_json_or_have_no_length_are_refused():
    async def odd():
        yield b"{}"

    async def requests(http):
        return (
            await http.post("/get_reward_mllm", content=b"\xff{"),
            await http.post("/get_reward_mllm", content=odd()),
            await http.post("/score", json=[]),
            await http.post("/score", content=json.dumps({**ASKED, "question": "\ud800"})),
        )

    assert [response.status_code for response in ask(requests)] == [422, 411, 422, 422]


def test_images_are_named_by_path_in_the_folder_or_sent_as_data_and_a_missing_one_is_a_cause(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    image = (tmp_path / "a.png").read_bytes()
    images = ["a.png", str(tmp_path / "a.png"), "data:image/png;base64," + base64.b64encode(image).decode()]
    server = Server()

    async def requests(http):
        right = await http.post("/get_reward_mllm", json={**ASKED, "image": images})
        return right, await http.post("/get_reward_mllm", json={**ASKED, "image": "gone.png"})

    right, gone = ask(requests, server, images=tmp_path)
    assert right.status_code == 200
    sent = [part["image_url"]["url"] for part in server.seen[0]["body"]["messages"][0]["content"][:-1]]
    assert sent == [images[2]] * 3
    assert (gone.status_code, gone.json()["error"]["cause"]) == (503, "image_missing")


def test_score_is_typed_and_has_a_null_verdict_with_a_cause():
    async def babbles(request, number):
        return completion("?") if number > 1 else None

    body = {"question": "q", "response_1": "a", "response_2": "b", "rubric": RUBRIC, "label": 2}

    async def requests(http):
        return (await http.post("/score", json=body)).json(), (await http.post("/score", json=body)).json()

    first, second = ask(requests, Server(behave=babbles))
    assert (first["verdict"], first["agrees"], first["cause"]) == (1, False, None)
    assert (second["verdict"], second["agrees"], second["cause"], second["text"]) == (None, None, "unparsed", "?")


def test_health_is_open_and_current_and_everything_else_requires_the_key():
    async def scene():
        servers = [Server(), Server()]
        async with front_end(*servers) as http:
            del http.headers["Authorization"]
            closed = [
                (await http.post("/get_reward_mllm", json=ASKED)).status_code,
                (await http.post("/score", json=ASKED, headers={"Authorization": "Bearer no"})).status_code,
                (await http.get("/metrics")).status_code,
                (await http.get("/docs")).status_code,
            ]
            states = [(await http.get("/health"))]
            for server in servers:
                await server.stop()
                await asyncio.sleep(1.1)
                states.append(await http.get("/health"))
            return closed, [(state.status_code, state.json()["status"]) for state in states]

    closed, states = asyncio.run(scene())
    assert closed == [401] * 4
    assert states == [(200, "ok"), (200, "degraded"), (503, "down")]


def test_metrics_count_what_was_scored_and_what_was_not_by_cause():
    async def babbles(request, number):
        return completion("?") if number > 2 else None

    async def requests(http):
        for _ in range(3):
            await http.post("/get_reward_mllm", json=ASKED)
        return (await http.get("/metrics")).text

    text = ask(requests, Server(behave=babbles))
    assert "proxygrm_proxy_scored_total 2.0" in text
    assert 'proxygrm_proxy_unscored_total{cause="unparsed"} 1.0' in text
    assert 'proxygrm_proxy_latency_seconds{quantile="p95"}' in text


def test_a_caller_that_disconnects_frees_its_place_on_the_replica():
    async def slow(request, number):
        await asyncio.sleep(60)

    async def scene():
        server = Server(behave=slow)
        async with front_end(server) as http:
            calls = [asyncio.create_task(http.post("/get_reward_mllm", json=ASKED)) for _ in range(4)]
            await until(lambda: server.now == 4)
            for call in calls:
                call.cancel()
            await until(lambda: server.now == 0)
            return server.now, server.cancelled

    assert asyncio.run(scene()) == (0, 4)


class Process:
    """`proxygrm proxy front` as users start it."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "jobs", "proxy", "front", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.url = self.process.stdout.readline().split()[2]
        self.process.stdout.readline()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        code = self.process.wait(60)
        with self.process.stdout:
            return code, self.process.stdout.read()


def test_a_front_end_that_is_restarted_keeps_its_key_and_its_callers_get_no_false_reward(tmp_path):
    async def slow(request, number):
        if number == 1:
            await asyncio.sleep(60)

    async def scene():
        server = Server(behave=slow)
        async with stubs(server) as urls:
            file = Endpoints(tuple(urls), api_key="key", call_timeout_s=120).write(tmp_path / "endpoints.json")
            first = await asyncio.to_thread(Process, "--endpoints", file)
            key = (tmp_path / "front.key").read_text().strip()
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=120) as http:
                for _ in range(1200):  # it prints its address a moment before it listens
                    with contextlib.suppress(httpx.ConnectError):
                        if (await http.get(f"{first.url}/health")).status_code == 200:
                            break
                    await asyncio.sleep(0.05)
                call = asyncio.create_task(http.post(f"{first.url}/get_reward_mllm", json=ASKED))
                await until(lambda: server.now == 1)
                first.process.kill()
                await asyncio.to_thread(first.process.wait)
                first.process.stdout.close()
                lost = await asyncio.gather(call, return_exceptions=True)
                await until(lambda: server.now == 0)
                second = await asyncio.to_thread(Process, "--endpoints", file, "--port", first.url.rsplit(":", 1)[1])
                for _ in range(1200):
                    with contextlib.suppress(httpx.ConnectError):
                        answer = await http.post(f"{second.url}/get_reward_mllm", json=ASKED)
                        break
                    await asyncio.sleep(0.05)
            return lost[0], answer, await asyncio.to_thread(second.end), second.url == first.url

    lost, answer, (code, output), same = asyncio.run(scene())
    assert isinstance(lost, httpx.TransportError)
    assert same
    assert (answer.status_code, answer.json()) == (200, {"reward": 1.0})
    assert (code, output) == (0, "stopped\n")


def test_the_key_file_is_private_is_kept_and_is_refused_when_others_can_read_it(tmp_path):
    file = tmp_path / "front.key"
    key = read_or_make_key(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_or_make_key(file) == key
    file.chmod(0o640)
    with refused("key-file.not-private", path=file):
        read_or_make_key(file)
    file.chmod(0o600)
    file.write_text("\n")
    with refused("key-file.empty", path=file):
        read_or_make_key(file)
    with refused("file.cannot-write", path=tmp_path / "no" / "folder"):
        read_or_make_key(tmp_path / "no" / "folder")
