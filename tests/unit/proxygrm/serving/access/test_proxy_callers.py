"""Callers that need no key: by the address of their socket, never all of them, and printed at the start."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from jobs.cli.proxy import proxy
from proxygrm.critique.contract import parse
from proxygrm.rewards.proxy_agreement import ProxyAgreement, rubric_to_judge, score
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins import reward_fn
from proxygrm.serving.access.callers import NOBODY, THIS_MACHINE, is_loopback, parse_callers
from proxygrm.serving.endpoints import Endpoints
from support.proxy.stub import Server, completion, stubs
from support.refusals import refused
from support.rows.release_files import image_bytes

pytestmark = pytest.mark.slow

PNG = image_bytes(1)
WRITTEN = (
    "<rubric>Names colour {0} (100%)<justify>j</justify></rubric><eval>e</eval><answer>{1}</answer>",
    "Sure. <rubric>Names colour {0} (100%)<justify>j</justify></rubric>\n<eval>e</eval><answer>{1}</answer>",
    "<rubric>Names colour {0} (100%) <eval>never closed</eval><answer>{1}</answer>",
    "<rubric>Names colour {0} (100%)</rubric><eval>e</eval><answer>1 or 2</answer>",
    "no tags at all, {0} {1}",
)
"""Rollouts of five kinds; {1} is the verdict."""


@pytest.mark.parametrize(
    ("texts", "peer", "included"),
    [
        (["10.1.2.3"], "10.1.2.3", True),
        (["10.1.2.3"], "10.1.2.4", False),
        (["10.1.2.0/24", "192.168.0.1"], "192.168.0.1", True),
        (["10.1.2.0/24"], "10.1.3.1", False),
        (["10.1.2.0/24"], "::ffff:10.1.2.9", True),
        (["::ffff:10.1.2.0/120"], "10.1.2.9", True),
        (["fe80::/64"], "fe80::1%eth0", True),
        (["::1"], "::1", True),
        (["::1"], "127.0.0.1", False),
        (["10.0.0.0/8"], None, False),
        (["10.0.0.0/8"], "", False),
        (["10.0.0.0/8"], "testclient", False),
        ([], "127.0.0.1", False),
    ],
)
def test_callers_are_known_by_address_and_network(texts, peer, included):
    assert parse_callers(texts).include(peer) is included


@pytest.mark.parametrize(
    ("texts", "code", "value"),
    [
        (["0.0.0.0/0"], "proxy.too-many-callers", {"network": "0.0.0.0/0"}),
        (["::/0"], "proxy.too-many-callers", {"network": "::/0"}),
        (["0.0.0.0/1", "128.0.0.0/1"], "proxy.too-many-callers", {"network": "0.0.0.0/0"}),
        ([f"{first}.0.0.0/8" for first in range(256)], "proxy.too-many-callers", {"network": "0.0.0.0/0"}),
        (["::ffff:0.0.0.0/96"], "proxy.too-many-callers", {"network": "0.0.0.0/0"}),
        (["0/0"], "proxy.not-an-address", {"reason": "names are not looked up"}),
        (["node7"], "proxy.not-an-address", {"reason": "names are not looked up"}),
        (["localhost"], "proxy.not-an-address", {"reason": "names are not looked up"}),
        (["*"], "proxy.not-an-address", {"reason": "names are not looked up"}),
        ([""], "proxy.not-an-address", {"reason": "names are not looked up"}),
        (["10.0.0.5/8"], "proxy.not-an-address", {"reason": "10.0.0.5/8 has host bits set"}),
        (["10.0.0.5:8000"], "proxy.not-an-address", {"reason": "names are not looked up"}),
    ],
)
def test_too_wide_a_network_and_what_is_not_an_address_are_refused(texts, code, value):
    with refused(code, **value):
        parse_callers(texts)


def test_no_callers_by_default_and_without_a_key_only_this_machine():
    assert not NOBODY.include("127.0.0.1")
    assert THIS_MACHINE.include("127.0.0.5")
    assert THIS_MACHINE.include("::ffff:127.0.0.1")
    assert not THIS_MACHINE.include("10.0.0.1")
    assert [is_loopback(a) for a in ("127.9.9.9", "::1", "0.0.0.0", "::", "10.0.0.1")] == [True, True, *[False] * 3]


def invoke(*options):
    command = ["front", "--url", "http://127.0.0.1:9", *options]
    CliRunner().invoke(proxy, command, catch_exceptions=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_key_where_other_machines_can_call_is_refused_at_the_start(tmp_path, monkeypatch, host):
    monkeypatch.chdir(tmp_path)
    with refused("proxy.open-to-all", address=host):
        invoke("--host", host, "--no-key")
    assert list(tmp_path.iterdir()) == []


def test_options_that_contradict_each_other_are_refused():
    with refused("option.conflict", options=["--no-key", "--key-file"]):
        invoke("--no-key", "--key-file", "k")
    with refused("proxy.too-many-callers"):
        invoke("--allow", "0.0.0.0/0")


class Front:
    """`proxygrm proxy front` as users start it, in its own folder."""

    def __init__(self, folder: Path, urls, *options):
        file = Endpoints(tuple(urls), api_key="key", call_timeout_s=120).write(folder / "endpoints.json")
        command = [sys.executable, "-m", "jobs", "proxy", "front", "--endpoints", str(file), *map(str, options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.url = self.process.stdout.readline().split()[2]
        self.access_line = self.process.stdout.readline().rstrip("\n")

    async def ready(self):
        async with httpx.AsyncClient(trust_env=False, timeout=120) as http:
            for _ in range(1200):  # it prints its address a moment before it listens
                with contextlib.suppress(httpx.ConnectError):
                    if (await http.get(f"{self.url}/health")).status_code == 200:
                        return
                await asyncio.sleep(0.05)
        raise AssertionError("the front end does not answer")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.process.stdout.close()


@contextlib.asynccontextmanager
async def front_end(folder, server, *options):
    async with stubs(server) as urls:
        front = await asyncio.to_thread(Front, folder, urls, *options)
        try:
            await front.ready()
            yield front
        finally:
            await asyncio.to_thread(front.end)


def upstream_reward(url: str, pair: dict, rollout: str, peer: str = "127.0.0.1", **headers: str) -> tuple[int, float]:
    """Status, and the reward that upstream's client reads from it: it sends no key and the image's path, cuts the
    rubric out of the rollout, and counts every response without a reward as 0.0."""
    rubric = rollout.partition("</rubric>")[0].partition("<justify>")[0] + "</rubric>"
    body = {
        "question": pair["question"],
        "chosen": pair["response_1"],
        "rejected": pair["response_2"],
        "image": pair["images"][0],
        "answer": f"<answer>{pair['label']}</answer>",
        "rubric": rubric,
    }
    transport = httpx.HTTPTransport(local_address=peer)
    with httpx.Client(transport=transport, trust_env=False, timeout=60) as http:
        response = http.post(f"{url}/get_reward_mllm", json=body, headers=headers)
    return response.status_code, float(response.json().get("reward", 0.0))


async def _verdict_by_content(request, number):
    """A verdict that depends on everything that the proxy is shown except the image."""
    body = json.loads(await request.read())
    text = body["messages"][0]["content"][-1]["text"]
    return completion(f"<think>t</think><answer>{hashlib.sha256(text.encode()).digest()[0] % 2 + 1}</answer>")


def pairs(folder: Path, count: int) -> list[dict]:
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(PNG)
    return [
        {
            "id": str(number),
            "question": f"Which colour is number {number}?",
            "response_1": "Red.",
            "response_2": "Blue.",
            "label": number % 2 + 1,
            "images": [str(folder / "images" / "a.png")],
        }
        for number in range(count)
    ]


def test_upstreams_client_without_a_key_gets_the_scores_that_our_own_reward_gives(tmp_path):
    rows = [
        (pair, kind.format(pair["id"], number % 3 % 2 + 1))
        for number, pair in enumerate(pairs(tmp_path, 8))
        for kind in WRITTEN
    ]

    async def scene():
        server = Server(behave=_verdict_by_content)
        options = ("--no-key", "--images", tmp_path / "images")
        async with front_end(tmp_path, server, *options) as front:
            responses = [await asyncio.to_thread(upstream_reward, front.url, *row) for row in rows]
            ours = RewardOptions(
                rollouts=str(tmp_path), stop_file=str(tmp_path / "stop"), group_size=8,
                reward=ProxyAgreement(deny_leaks=False),
                endpoints=str(tmp_path / "endpoints.json"),
            ).write(tmp_path / "options.json")  # fmt: skip
            scores = [
                await reward_fn.compute_score("x", text, str(pair["label"]), pair, options=str(ours))
                for pair, text in rows
            ]
            await reward_fn._client(str(tmp_path / "endpoints.json")).aclose()
            return responses, scores, front.access_line, (tmp_path / "front.key").exists()

    responses, scores, access_line, key_exists = asyncio.run(scene())
    assert access_line == (
        "callers without a key: 127.0.0.0/8, ::1/128; every user of this machine can call; all others are refused"
    )
    assert not key_exists
    for (pair, text), (status, reward), own in zip(rows, responses, scores, strict=True):
        critique = parse(text)
        has_rubric = rubric_to_judge(critique, deny_leaks=False) is not None
        assert (status, reward != 0.0) == ((200, True) if has_rubric else (422, False))
        assert score(critique, pair["label"], reward or None, deny_leaks=False).score == own["score"]
    assert {own["proxy"] for own in scores} == {1.0, -1.0, 0.0}


def test_an_address_that_is_not_allowed_needs_the_key_whatever_its_headers_say(tmp_path):
    (pair,) = pairs(tmp_path, 1)
    rollout = WRITTEN[0].format("red", 1)

    async def scene():
        options = ("--allow", "127.0.0.3", "--allow", "10.9.0.0/16", "--images", tmp_path / "images")
        async with front_end(tmp_path, Server("1"), *options) as front:

            async def ask(peer, **headers):
                return await asyncio.to_thread(upstream_reward, front.url, pair, rollout, peer, **headers)

            key = {"Authorization": f"Bearer {(tmp_path / 'front.key').read_text().strip()}"}
            forged = {"X-Forwarded-For": "127.0.0.3", "Forwarded": "for=10.9.0.1", "X-Real-IP": "127.0.0.3"}
            responses = {
                "allowed": await ask("127.0.0.3"),
                "other": await ask("127.0.0.2"),
                "self": await ask("127.0.0.1"),
                "other with the key": await ask("127.0.0.2", **key),
                "forged": await ask("127.0.0.2", **forged),
                "forged from this machine": await ask("127.0.0.1", **forged),
                "wrong key": await ask("127.0.0.2", Authorization="Bearer x"),
            }
            return responses, front.access_line

    responses, access_line = asyncio.run(scene())
    assert {who: status for who, (status, _) in responses.items()} == {
        "allowed": 200,
        "other": 401,
        "self": 401,
        "other with the key": 200,
        "forged": 401,
        "forged from this machine": 401,
        "wrong key": 401,
    }
    assert access_line.startswith(
        "callers without a key: 10.9.0.0/16, 127.0.0.3/32; every user of this machine can call; all"
    )
    assert access_line.endswith(f"all others need the key in {tmp_path / 'front.key'}")


def test_without_a_key_on_all_addresses_only_the_list_is_answered_and_paths_stay_in_their_folder(tmp_path):
    (pair,) = pairs(tmp_path, 1)
    rollout = WRITTEN[0].format("red", 1)
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "secret.png")

    async def scene():
        options = ("--host", "0.0.0.0", "--no-key", "--allow", "127.0.0.3", "--images", tmp_path / "images")
        async with front_end(tmp_path, Server("1"), *options) as front:
            url = front.url.replace("0.0.0.0", "127.0.0.1")
            outside = [str(tmp_path / "secret.png"), "../secret.png", "link.png", "file:///etc/passwd"]

            async def status(peer, path=pair["images"][0]):
                shown = {**pair, "images": [path]}
                return (await asyncio.to_thread(upstream_reward, url, shown, rollout, peer))[0]

            return (
                [await status(peer) for peer in ("127.0.0.3", "127.0.0.1", "127.0.0.2")],
                [await status("127.0.0.3", path) for path in outside],
            )

    assert asyncio.run(scene()) == ([200, 401, 401], [422] * 4)


def test_the_reward_file_that_the_docs_print_gives_the_same_scores_and_never_a_false_one(tmp_path, monkeypatch):
    import os
    import urllib.error

    page = (Path(__file__).parents[5] / "docs" / "use-from-verl.md").read_text()
    printed = page.partition("```python\n")[2].partition("```")[0]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a site's HTTP proxy is not used
    rows = [(pair, kind.format("red", 2)) for pair in pairs(tmp_path, 2) for kind in WRITTEN]

    async def scene():
        options = ("--no-key", "--images", tmp_path / "images")
        async with front_end(tmp_path, Server(behave=_verdict_by_content), *options) as front:
            monkeypatch.setitem(os.environ, "PROXYGRM_FRONT", front.url)
            names: dict = {}
            exec(compile(printed, "reward.py", "exec"), names)
            scores = [
                await asyncio.to_thread(names["compute_score"], "x", text, str(pair["label"]), pair)
                for pair, text in rows
            ]
            lost = {**rows[0][0], "images": [str(tmp_path / "images" / "gone.png")]}
            with pytest.raises(urllib.error.HTTPError, match="503"):
                await asyncio.to_thread(names["compute_score"], "x", rows[0][1], "1", lost)
            own = RewardOptions(
                str(tmp_path), str(tmp_path / "stop"), 8, endpoints=str(tmp_path / "endpoints.json")
            ).write(tmp_path / "options.json")
            ours = [
                (await reward_fn.compute_score("x", text, str(pair["label"]), pair, options=str(own)))["score"]
                for pair, text in rows
            ]
            await reward_fn._client(str(tmp_path / "endpoints.json")).aclose()
            return scores, ours

    scores, ours = asyncio.run(scene())
    assert scores == ours
    assert len(set(scores)) > 2
