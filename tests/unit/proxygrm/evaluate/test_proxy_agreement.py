"""`proxygrm proxy agreement`: what is read, how it is counted, and that nothing is asked twice or lost in silence."""

from __future__ import annotations

import asyncio
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from click.testing import CliRunner

from jobs.cli.proxy import proxy
from proxygrm.core.errors import UserError
from proxygrm.evaluate.agreement.cases import read_cases
from proxygrm.evaluate.agreement.figures import Judged, Opinion, figures
from proxygrm.evaluate.agreement.run import How, Side, compare
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.settings import ProxySettings
from support.proxy.stub import Server, completion, stubs

SEEN = "<rubric>{}<justify>why</justify></rubric><eval>e</eval><answer>1</answer>"
LIMITS = ["--max-tokens", "64", "--max-model-len", "1024"]


def row(number, label=1, **more):
    texts = {"question": f"Q {number}?\n\"'ünï\u2028", "response_1": "Red.", "response_2": "Blue."}
    return {"id": f"p{number}", "label": str(label), **texts, "critique": SEEN.format(f"Names {number}"), **more}


def written(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


# ---- figures


def opinions(*cells):
    """(pair, label, a's verdict, b's verdict) each; 0 stands for no verdict."""

    def said(verdict):
        return Opinion(verdict or None, cause="" if verdict else "unparsed")

    return [Judged(str(pair), label, said(a), said(b)) for pair, label, a, b in cells]


def test_agreement_and_kappa_are_those_of_a_known_table():
    cells = [(0, 1, 1, 1)] * 20 + [(0, 1, 1, 2)] * 5 + [(0, 1, 2, 1)] * 10 + [(0, 1, 2, 2)] * 15
    found = figures(opinions(*((number, *cell[1:]) for number, cell in enumerate(cells))))
    assert found["verdicts"] == {"1,1": 20, "1,2": 5, "2,1": 10, "2,2": 15}
    assert found["same"]["share"] == pytest.approx(0.7)
    assert found["kappa"] == pytest.approx(0.4)  # the textbook's table
    assert 0.56 < found["same"]["low"] < 0.57
    assert 0.80 < found["same"]["high"] < 0.81
    assert (found["mcnemar"]["only_a"], found["mcnemar"]["only_b"]) == (5, 10)
    assert found["mcnemar"]["p"] == pytest.approx(0.3018, abs=1e-4)
    assert (found["a"]["right"]["share"], found["b"]["right"]["share"]) == (0.5, 0.6)


def test_rows_without_a_verdict_are_counted_by_cause_and_never_as_agreement():
    found = figures(opinions((1, 1, 1, 1), (2, 2, 0, 2), (3, 1, 0, 0), (4, 2, 2, 0)))
    assert (found["rows"], found["both"], found["same"]["of"]) == (4, 1, 1)
    assert (found["same"]["share"], found["same_all"]) == (1.0, 0.25)
    assert (found["a"]["scored"], found["a"]["unscored"]) == (2, {"unparsed": 2})
    assert found["kappa"] is None  # both say the same word only: chance explains everything


def test_nothing_judged_has_no_shares_and_does_not_divide_by_it():
    for rows in ([], opinions((1, 1, 0, 0))):
        found = figures(rows)
        assert (found["same"]["share"], found["kappa"], found["a"]["brier"]) == (None, None, None)
        assert found["mcnemar"]["p"] == 1


def test_eight_rollouts_of_one_pair_are_one_trial():
    once, often = figures(opinions((1, 1, 1, 2))), figures(opinions(*[(1, 1, 1, 2)] * 8))
    assert often["mcnemar"] == once["mcnemar"] == {"only_a": 1, "only_b": 0, "p": 1.0}
    assert (often["same"]["low"], often["same"]["high"]) == (once["same"]["low"], once["same"]["high"])


def test_the_brier_score_is_of_the_label_and_of_soft_verdicts_alone():
    rows = [Judged("1", 1, Opinion(1, 0.9), Opinion(1)), Judged("2", 2, Opinion(1, 0.6), Opinion(2))]
    found = figures(rows)
    assert found["a"]["brier"] == pytest.approx((0.01 + 0.36) / 2)
    assert found["b"]["brier"] is None


# ---- rows


def test_rows_that_are_no_case_are_counted_by_reason(tmp_path):
    good = row(1)
    rows = [
        good,
        row(2, critique="<rubric>never closed"),
        row(3, critique=SEEN.format("Response 1 is better (100%)")),
        row(4, label=3),
        row(5, critique=None),
        {"id": "p6", "label": 1, "critique": good["critique"]},
        row(7, images=[3]),
    ]
    file = written(tmp_path / "rows.jsonl", rows)
    file.write_text(file.read_text() + '\n[]\n"text"\n{"torn": ')
    found = read_cases([file])
    assert [case.id for case in found.cases] == ["p1"]
    assert (found.read, found.taken) == (10, 10)
    assert found.left_out == {
        "nothing_to_judge": 2,
        "bad_label": 1,
        "no_critique": 1,
        "pair_unknown": 1,
        "images_are_no_paths": 1,
        "not_json": 3,
    }


def test_names_for_the_same_fields_and_a_mere_rubric_are_taken_and_the_rest_of_a_critique_is_not_shown(tmp_path):
    mere = {**row(1), "critique": None, "rubric": "<rubric>Names 1</rubric>", "image": "a b.png"}
    other = {**row(2), "response": row(2)["critique"], "ground_truth": 2}
    del other["critique"], other["label"]
    first, second = read_cases([written(tmp_path / "rows.jsonl", [mere, other])]).cases
    assert first.images == (str(tmp_path / "a b.png"),)
    assert (first.rubric, second.rubric) == ("<rubric>\nNames 1\n</rubric>", "<rubric>\nNames 2\n</rubric>")
    assert (first.label, second.label) == (1, 2)


def verl_parquet(path, *pairs):
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("id", "question", "response_1", "response_2", "label")
    extra = [dict(zip(keys, pair, strict=True), images=["/x/p.png"]) for pair in pairs]
    pq.write_table(pa.table({"extra_info": extra}), path)
    return path


def test_rollouts_of_a_run_find_their_pairs_in_its_training_file(tmp_path):
    verl_parquet(tmp_path / "split/grm_rl.parquet", ("p1", "Colour?", "Red.", "Blue.", 2))
    short = {"id": "p1", "critique": row(1)["critique"]}
    rollouts = tmp_path / "grm_rl/rollouts"
    written(rollouts / "step_00001.jsonl", [{**short, "label": "2"}, {**short, "label": "1"}])
    written(rollouts / "step_00002.jsonl", [{**short, "label": "2", "id": "elsewhere"}])
    found = read_cases([rollouts])
    assert [(case.question, case.images, case.label) for case in found.cases] == [("Colour?", ("/x/p.png",), 2)]
    assert found.left_out == {"label_mismatch": 1, "pair_unknown": 1}
    teachers = written(rollouts / "critiques.jsonl", [short, {**short, "id": "elsewhere"}, {**short, "label": None}])
    found = read_cases([teachers])
    assert ([case.label for case in found.cases], found.left_out) == ([2], {"pair_unknown": 1, "no_label": 1})
    teachers.unlink()
    other = verl_parquet(tmp_path / "other.parquet", ("elsewhere", "Size?", "Big.", "Small.", 2))
    assert [case.question for case in read_cases([rollouts], other).cases] == ["Size?"]


def test_a_limit_takes_rows_from_all_of_the_input(tmp_path):
    file = written(tmp_path / "rows.jsonl", [row(number) for number in range(100)])
    found = read_cases([file], limit=4)
    assert [case.id for case in found.cases] == ["p0", "p25", "p50", "p75"]
    assert (found.read, found.taken) == (100, 4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p / "gone", "no rollouts at"),
        (lambda p: p, "has no .jsonl files"),
        (lambda p: written(p / "empty.jsonl", []), "nothing there to judge (no rows at all)"),
        (lambda p: written(p / "short.jsonl", [{"id": "x", "label": 1, "critique": SEEN}]), "say with --pairs"),
    ],
)
def test_input_that_holds_nothing_is_said_in_one_line(tmp_path, make, said):
    with pytest.raises(UserError) as error:
        read_cases([make(tmp_path)])
    assert said in str(error.value)


def test_a_file_of_pairs_that_is_none_is_said(tmp_path):
    file = written(tmp_path / "rows.jsonl", [{"id": "x", "label": 1, "critique": SEEN}])
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    for pairs in ("torn.parquet", "gone.parquet"):
        with pytest.raises(UserError, match=f"{pairs} is no training file"):
            read_cases([file], tmp_path / pairs)


# ---- asking


class Proxy(Server):
    """Says 1, but 2 without reasons about every third question, where it is not sure."""

    async def answer(self, request, number):
        asked = self.seen[-1]["body"]
        number = int(asked["messages"][0]["content"][-1]["text"].split("Names ")[1].split("\n")[0])
        if "logprobs" not in asked:
            return completion("<think>so</think><answer>1</answer>")
        said = "2" if number % 3 == 0 else "1"
        top = [{"token": said, "logprob": -0.5}, {"token": "12"[said == "1"], "logprob": -1.5}]
        logprobs = {"content": [{**top[0], "top_logprobs": top}]}
        return web.json_response({"choices": [{"message": {"content": said}, "logprobs": logprobs}]})

    def __init__(self, **given):
        super().__init__(behave=self.answer, **given)


def compared(server, tmp_path, rows, out=None, modes=("critique", "verdict")):
    """Figures of a pool's two modes; `server` may be None, for one that must not be asked."""

    async def scene():
        async with stubs(*([server] if server else [])) as urls:
            file = Endpoints(tuple(urls or ["http://127.0.0.1:9"]), "key", max_tokens=64).write(tmp_path / "pool.json")
            sides = [Side(str(file), mode) for mode in modes]
            how = How(ProxySettings(max_tokens=64), timeout_s=3.0)
            cases = read_cases([written(tmp_path / "rows.jsonl", rows)])
            return await asyncio.to_thread(compare, cases, *sides, how, out)

    return asyncio.run(scene())


def test_two_modes_of_one_pool_are_asked_about_each_rubric_once(tmp_path):
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


def test_repeating_the_command_asks_for_nothing_and_says_the_same_even_when_the_pool_is_gone(tmp_path):
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
    with pytest.raises(UserError, match="begun with another a_mode"):
        compared(None, tmp_path, [row(1)], out, ("verdict", "critique"))


def test_what_was_lost_has_its_cause_and_is_asked_for_again(tmp_path):
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


def test_a_proxy_that_breaks_ends_the_command_early_and_what_came_is_kept(tmp_path):
    class Breaking(Proxy):
        async def answer(self, request, number):
            if number > 20:
                return web.Response(status=401)
            return await super().answer(request, number)

    server, out = Breaking(), tmp_path / "opinions.jsonl"
    with pytest.raises(UserError, match=r"--a .* judgements were lost \(refused"):
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
def test_bad_arguments_are_one_line_before_anything_is_asked(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    file = str(written(tmp_path / "rows.jsonl", [row(1)]))
    pool = str(Endpoints(("http://127.0.0.1:9",), "key").write(tmp_path / "pool.json"))
    (tmp_path / "folder").mkdir()

    def refused(*words):
        return str(CliRunner().invoke(proxy, ["agreement", *words, *LIMITS]).exception)

    assert "the same in the same mode" in refused(file, "--a", pool, "--b", pool)
    assert "no endpoints file at" in refused(file, "--a", str(tmp_path / "gone"))
    assert "it has no config.json" in refused(file, "--a", str(tmp_path / "folder"))
    assert "nobody answers at http://127.0.0.1:9/health" in refused(file, "--a", pool)
    assert "not the URL of a server" in refused(file, "--a", "http://")
    assert "no key in" in refused(file, "--a", "http://127.0.0.1:9", "--api-key-file", "/dev/null")
    assert "no rollouts at" in refused(str(tmp_path / "gone"), "--a", pool)
    assert list((tmp_path / "tmp").iterdir()) == []
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"max_position_embeddings": 32}')
    assert "model allows 32 tokens" in refused(file, "--a", str(tmp_path / "model"), "--device", "cpu")


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
