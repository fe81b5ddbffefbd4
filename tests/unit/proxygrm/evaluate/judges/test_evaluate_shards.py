"""Several models over the same pairs in shards, before judges over real HTTP: the same for any number of shards."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace

import pytest
from fastapi import FastAPI, HTTPException, Request

from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.models import Evaluation, judge_models, merge_models
from proxygrm.evaluate.settings import EvaluateSettings
from support.evaluate.http_judges import serving
from support.evaluate.runs import write
from support.refusals import refused

PAIRS = 7
JUDGEMENTS = 2 * PAIRS
MODELS = ("start", "sft", "same")


class Judges:
    """`start` writes no rubric; `sft` and `same` write the same one for a prompt; `proxy` sees rubrics only. Verdicts
    follow from the prompt."""

    def __init__(self):
        self.prompts, self.fail_after = Counter(), None
        self.app = FastAPI()
        self.app.get("/v1/models")(lambda: {"data": [{"id": name} for name in (*MODELS, "proxy")]})
        self.app.post("/v1/chat/completions")(self.complete)

    async def complete(self, request: Request):
        body = await request.json()
        text = body["messages"][0]["content"][-1]["text"]
        if self.fail_after is not None and sum(self.prompts.values()) >= self.fail_after:
            raise HTTPException(403)
        self.prompts[body["model"], text] += 1
        digest = hashlib.sha256(text.encode()).digest()
        answer = f"<answer>{1 + digest[0] % 2}</answer>"
        if body["model"] == "proxy":
            answer = f"<think>t</think>{answer}"
        elif body["model"] != "start":
            answer = f"<rubric>Sees {digest[1]} (100%)<justify>j</justify></rubric><eval>e</eval>{answer}"
        return {"choices": [{"message": {"content": answer}, "finish_reason": "stop"}], "usage": {}}


@pytest.fixture
def judges():
    found = Judges()
    with serving(found.app) as found.url:
        yield found


def evaluation(tmp_path, judges, answers):
    rows = [{"id": f"p{n}", "prompt": f"q{n}?", "chosen": "good", "rejected": f"bad {n}"} for n in range(PAIRS)]
    pairs = write(tmp_path / "pairs.jsonl", rows)

    def endpoint(name):
        return Endpoint(judges.url, name, concurrency=1, attempts=1)

    models = {name: endpoint(name) for name in MODELS}
    return Evaluation(models, endpoint("proxy"), pairs, tmp_path / answers, EvaluateSettings())


def judge_in_shards(one, count):
    for index in reversed(range(count)):
        judge_models(one, index, count)


def written(out):
    """Rows without the time they took, and the summary."""
    rows = {
        name: [json.loads(line) | {"seconds": None} for line in (out / f"{name}.jsonl").read_text().splitlines()]
        for name in MODELS
    }
    return rows, json.loads((out / "summary.json").read_text())


@pytest.mark.needs("swanlab")
def test_rows_and_summary_are_the_same_for_any_number_of_shards(tmp_path, judges):
    for count in (1, 3, 11):
        one = evaluation(tmp_path, judges, f"answers {count}")
        judge_in_shards(one, count)
        merge_models(one, tmp_path / f"out {count}")
        assert set(judges.prompts.values()) == {1}, "nothing is requested twice"
        assert len(judges.prompts) == (len(MODELS) + 1) * JUDGEMENTS, "equal rubrics of two models are judged once"
        judges.prompts.clear()
    rows, summary = written(tmp_path / "out 1")
    assert written(tmp_path / "out 3") == written(tmp_path / "out 11") == (rows, summary)
    assert [row["proxy_asked"] for row in rows["start"]] == [False] * JUDGEMENTS
    assert [row["proxy_verdict"] for row in rows["same"]] == [row["proxy_verdict"] for row in rows["sft"]]
    assert all(row["proxy_agrees"] == (row["proxy_verdict"] == row["label"]) for row in rows["sft"])
    assert {row["proxy_agrees"] for row in rows["sft"]} == {True, False}
    assert [figures["proxy_asked"] for figures in summary.values()] == [0, JUDGEMENTS, JUDGEMENTS]
    assert {figures["pairs"] for figures in summary.values()} == {PAIRS}


@pytest.mark.needs("swanlab")
@pytest.mark.parametrize("fail_after", [2, 5, 13, 20])
def test_a_shard_that_is_killed_resumes_at_the_row_even_when_split_differently(tmp_path, judges, fail_after):
    one = evaluation(tmp_path, judges, "answers")
    judges.fail_after = fail_after
    with pytest.raises(UserError, match="the key is refused"):
        judge_in_shards(one, 2)
    with refused("eval.missing-judgements"):
        merge_models(one, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()
    judges.fail_after = None
    judge_in_shards(one, 3)
    assert set(judges.prompts.values()) == {1}
    merge_models(one, tmp_path / "out")
    other = replace(one, answers=tmp_path / "in one")
    judge_models(other)
    merge_models(other, tmp_path / "other")
    assert written(tmp_path / "out") == written(tmp_path / "other")


def test_a_missing_shard_is_refused_with_the_rows_it_lacks(tmp_path, judges):
    one = evaluation(tmp_path, judges, "answers")
    for index in (0, 2):
        judge_models(one, index, 3)
    with refused("eval.missing-judgements", count=4, total=JUDGEMENTS, rows=[3, 4]):
        merge_models(one, tmp_path / "out")
    for file in (tmp_path / "answers" / "models").rglob("*.jsonl"):
        file.rename(file.with_name(file.name.replace("00003.jsonl", "00009.jsonl")))
    judge_models(one, 1, 3)
    (tmp_path / "answers" / "proxy" / "raw" / "answers-00002-of-00003.jsonl").unlink()
    with refused("eval.missing-judgements", count=4, total=JUDGEMENTS, rows=[3, 4]):
        merge_models(one, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_counts_the_judgements_of_all_models_and_of_the_proxy(tmp_path, judges):
    one, seen = evaluation(tmp_path, judges, "answers"), []
    judge_models(one, 0, 2, lambda done, total, note: seen.append((done, total, note)))
    assert {total for _, total, _ in seen} == {2 * len(MODELS) * 2 * 3}
    assert [done for done, *_ in seen] == sorted(done for done, *_ in seen)
    assert [note for _, _, note in seen if note.startswith("judging")] == [
        f"judging with {name}" for name in (*MODELS, "the proxy") for _ in range(6)
    ]


def test_a_tag_that_cannot_be_a_file_name_is_refused_before_anything_is_judged(tmp_path, judges):
    with refused("eval.bad-name", name="../x"):
        judge_models(replace(evaluation(tmp_path, judges, "answers"), models={"../x": tmp_path}))
    assert not judges.prompts
