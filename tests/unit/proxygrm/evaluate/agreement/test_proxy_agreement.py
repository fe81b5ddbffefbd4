"""`proxygrm proxy agreement`: nothing is requested twice or lost silently."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from aiohttp import web
from click.testing import CliRunner

from jobs.cli.proxy import proxy
from proxygrm.evaluate.agreement.cases import read_cases
from proxygrm.evaluate.agreement.run import Access, Side, compare_proxies
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.settings import ProxySettings
from support.evaluate.rollouts import LIMITS, row, written
from support.proxy.stub import Server, completion, stubs
from support.refusals import refused

pytestmark = pytest.mark.slow


class Proxy(Server):
    """Verdict 1, but without reasons 2 for every third question, where it is uncertain."""

    async def answer(self, request, number):
        body = self.seen[-1]["body"]
        number = int(body["messages"][0]["content"][-1]["text"].split("Names ")[1].split("\n")[0])
        if "logprobs" not in body:
            return completion("<think>so</think><answer>1</answer>")
        verdict = "2" if number % 3 == 0 else "1"
        top = [{"token": verdict, "logprob": -0.5}, {"token": "12"[verdict == "1"], "logprob": -1.5}]
        logprobs = {"content": [{**top[0], "top_logprobs": top}]}
        return web.json_response({"choices": [{"message": {"content": verdict}, "logprobs": logprobs}]})

    def __init__(self, **options):
        super().__init__(behave=self.answer, **options)


def compared(server, tmp_path, rows, out=None, modes=("critique", "verdict")):
    """Figures of a pool's two modes; `server` may be None, for one that must not be asked."""

    async def scene():
        async with stubs(*([server] if server else [])) as urls:
            file = Endpoints(tuple(urls or ["http://127.0.0.1:9"]), "key", max_tokens=64).write(tmp_path / "pool.json")
            sides = [Side(str(file), mode) for mode in modes]
            access = Access(ProxySettings(max_tokens=64), timeout_s=60.0)
            cases = read_cases([written(tmp_path / "rows.jsonl", rows)])
            return await asyncio.to_thread(compare_proxies, cases, *sides, access, out)

    return asyncio.run(scene())


def test_two_modes_of_one_pool_judge_each_rubric_once(tmp_path):
    server = Proxy()
    rows = [row(number) for number in range(9)] + [row(1), row(1), row(10, critique="no rubric")]
    found = compared(server, tmp_path, rows, tmp_path / "out" / "opinions.jsonl")
    assert len(server.seen) == 18
    assert (found["rows"], found["pairs"], found["read"]) == (11, 9, 12)
    assert found["left_out"] == {"nothing_to_judge": 1}
    assert found["verdicts"] == {"1,1": 8, "1,2": 3, "2,1": 0, "2,2": 0}
    assert found["same"]["share"] == pytest.approx(8 / 11)
    assert (found["a"]["mode"], found["b"]["mode"]) == ("critique", "verdict")
    assert found["mcnemar"]["only_a"] == 3
    sure = 1 / (1 + math.exp(-1))
    assert found["b"]["brier"] == pytest.approx((8 * (1 - sure) ** 2 + 3 * sure**2) / 11)
    lines = [json.loads(line) for line in (tmp_path / "out" / "opinions.jsonl").read_text().splitlines()[1:]]
    assert len(lines) == 18
    assert {line["soft"] is None for line in lines if line["side"] == "a"} == {True}


def test_repeating_the_command_sends_nothing_and_gives_the_same_even_when_the_pool_is_gone(tmp_path):
    rows, out = [row(number) for number in range(6)], tmp_path / "opinions.jsonl"
    first = compared(Proxy(), tmp_path, rows, out)
    assert compared(None, tmp_path, rows, out) == first
    out.write_bytes(out.read_bytes()[:-30])  # killed while writing the last row
    server = Proxy()
    again = compared(server, tmp_path, [*rows, row(7)], out)
    assert len(server.seen) == 3
    assert again["rows"] == 7


def test_opinions_of_other_proxies_are_not_mixed_in(tmp_path):
    out = tmp_path / "opinions.jsonl"
    compared(Proxy(), tmp_path, [row(1)], out)
    with refused("file.made-by-other", path=out):
        compared(None, tmp_path, [row(1)], out, ("verdict", "critique"))


def test_lost_judgements_have_a_cause_and_are_requested_again(tmp_path):
    class Failing(Proxy):
        async def answer(self, request, number):
            if "Names 3" in json.dumps(self.seen[-1]["body"]):
                return web.Response(status=400)
            return await super().answer(request, number)

    rows, out = [row(number) for number in range(6)], tmp_path / "opinions.jsonl"
    found = compared(Failing(), tmp_path, rows, out)
    assert (found["a"]["unscored"], found["b"]["unscored"]) == ({"refused": 1}, {"refused": 1})
    assert (found["both"], found["rows"]) == (5, 6)
    assert compared(Failing(), tmp_path, rows, out) == found  # what cannot be judged does not hold up the rest
    server = Proxy()
    assert compared(server, tmp_path, rows, out)["both"] == 6
    assert len(server.seen) == 2


def test_a_proxy_that_breaks_ends_the_command_early_and_its_answers_are_kept(tmp_path):
    class Breaking(Proxy):
        async def answer(self, request, number):
            if number > 20:
                return web.Response(status=401)
            return await super().answer(request, number)

    server, out = Breaking(), tmp_path / "opinions.jsonl"
    with refused("proxy.judgements-lost", side="a", total=400):
        compared(server, tmp_path, [row(number) for number in range(400)], out)
    assert len(server.seen) < 150
    kept = [json.loads(line) for line in out.read_text().splitlines()[1:]]
    assert sum(line["verdict"] == 1 for line in kept) == 20


def test_a_proxy_that_never_gives_a_verdict_is_counted_and_not_an_error(tmp_path):
    class Mute(Proxy):
        async def answer(self, request, number):
            if "logprobs" in self.seen[-1]["body"]:
                return await super().answer(request, number)
            return completion("I cannot say.")

    found = compared(Mute(), tmp_path, [row(1), row(2)])
    assert (found["a"]["scored"], found["a"]["unscored"]) == (0, {"unparsed": 2})
    assert (found["b"]["scored"], found["both"], found["same"]["share"]) == (2, 0, None)


@pytest.mark.needs("vllm")
def test_bad_arguments_are_refused_before_any_request(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    file = str(written(tmp_path / "rows.jsonl", [row(1)]))
    pool = str(Endpoints(("http://127.0.0.1:9",), "key").write(tmp_path / "pool.json"))
    (tmp_path / "folder").mkdir()

    def error(*words):
        return CliRunner().invoke(proxy, ["agreement", *words, *LIMITS]).exception

    assert error(file, "--a", pool, "--b", pool).code == "proxy.same-sides"
    assert "no endpoints file at" in str(error(file, "--a", str(tmp_path / "gone")))
    assert error(file, "--a", str(tmp_path / "folder")).code == "checkpoint.missing"
    assert error(file, "--a", pool).values["urls"] == ["http://127.0.0.1:9/health"]
    assert "not the URL of a server" in str(error(file, "--a", "http://"))
    assert "no key in" in str(error(file, "--a", "http://127.0.0.1:9", "--api-key-file", "/dev/null"))
    assert error(str(tmp_path / "gone"), "--a", pool).code == "proxy.no-rollouts"
    assert list((tmp_path / "tmp").iterdir()) == []
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"max_position_embeddings": 32}')
    assert "model allows 32 tokens" in str(error(file, "--a", str(tmp_path / "model"), "--device", "cpu"))


def test_the_command_prints_a_table_or_json(tmp_path):
    file = str(written(tmp_path / "rows.jsonl", [row(number) for number in range(4)]))

    async def scene():
        async with stubs(Proxy()) as (url,):
            words = ["agreement", file, "--a", url, *LIMITS]
            runner = CliRunner()
            plain = await asyncio.to_thread(runner.invoke, proxy, words)
            return plain, await asyncio.to_thread(runner.invoke, proxy, [*words, "--json"])

    plain, as_json = asyncio.run(scene())
    assert "same verdict 50.00 %" in plain.stdout
    assert "4 rubrics of 4 pairs" in plain.stdout
    found = json.loads(as_json.stdout)
    assert (found["same"]["share"], found["a"]["mode"], found["b"]["mode"]) == (0.5, "critique", "verdict")
    assert "rubrics to judge" in as_json.stderr
