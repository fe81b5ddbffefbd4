"""`eval run --contract pointwise`: each response is scored alone, K times; means are compared, equal ones are ties."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.models import Evaluation, judge_models, merge_models
from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.settings import EvaluateSettings
from support.evaluate.http_judges import Replies, serving
from support.evaluate.runs import call, raw, rows, run, scored, write
from support.refusals import refused

K = 3
PAIRS = [
    {"id": "clear", "question": "q", "chosen": "worth 80", "rejected": "worth 20"},
    {"id": "wrong", "question": "q", "chosen": "worth 30", "rejected": "worth 40"},
    {"id": "tie", "question": "q", "chosen": "worth 50", "rejected": "also worth 50"},
    {"id": "unclear", "question": "q", "chosen": "worth 60", "rejected": "worth nothing"},
    {"id": "partly", "question": "q", "chosen": "now and then worth 90", "rejected": "worth 70"},
]


def critic(prompt: str, number: int) -> str:
    """The score that the response names."""
    response = re.search(r"^Response: (.*)$", prompt, re.M)[1]
    if "now and then" in response and number % 2:
        return "<think>Hm.</think><answer>many</answer>"
    return f"<think>It says {response}.</think><answer>{response.split()[-1]}</answer>"


def words(*more: str) -> tuple[str, ...]:
    return ("--model", "one", "--contract", "pointwise", "--concurrency", "1", *more)


def test_responses_are_scored_alone_and_the_larger_mean_wins(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", PAIRS)
    judge, out = Replies(critic), tmp_path / "out"
    with serving(judge) as url:
        run(out, url, "--pairs", pairs, *words("--votes", str(K), "--temperature", "1", "--limit", "2"))
        assert len(judge.prompts) == 2 * 2 * K
        run(out, url, "--pairs", pairs, *words("--votes", str(K), "--temperature", "1"))
        assert len(judge.prompts) == len(PAIRS) * 2 * K, "what was judged is not judged again"
        with refused("file.made-by-other"):
            run(out, url, "--pairs", pairs, *words())
    assert not any("Response 2" in prompt or prompt.count("worth") > 1 for prompt in judge.prompts)
    assert len({row["key"] for row in raw(out)}) == len(PAIRS)
    judged = {row["id"].split(":")[-1]: row for row in rows(out)}
    outcome = {
        name: (row["verdict"] if row["verdict"] in ("tie", None) else row["correct"]) for name, row in judged.items()
    }
    assert outcome == {"clear": True, "wrong": False, "tie": "tie", "unclear": None, "partly": True}
    row = judged["clear"]
    assert sorted(row["scores"]) == [20, 80]
    assert sorted(row["score_samples"]) == [[20] * K, [80] * K]
    assert row["well_formed"]
    assert (row["problems"], row["tokens"], row["order"]) == ([], 2 * K * 9, "as_is")
    assert row["critique"].count("It says worth 80") == K
    partly = judged["partly"]
    assert sorted(partly["scores"]) == [70, 90], "the mean of the scores that there are"
    assert sum(sample.count(None) for sample in partly["score_samples"]) in (1, 2)
    assert partly["problems"] == ["answer_not_a_score"]
    assert judged["unclear"]["scores"] is None
    report = json.loads((out / "run.json").read_text())
    assert (report["contract"], report["orders"], report["votes"]) == ("pointwise", "as-given", K)
    assert (report["ties"], report["unparsed"], report["why_unparsed"]) == (1, 1, {"answer_not_a_score": 1})
    assert (report["made_by"]["prompt"], report["made_by"]["scores"]) == (prompt_hash("pointwise"), K)
    figures = scored(out)
    assert (figures["ties"], figures["unparsed"], figures["judgements"]) == (1, 1, len(PAIRS))
    assert figures["overall"] == 2 / 5
    assert figures["policies"]["drop"]["overall"] == 2 / 3


def test_its_rows_are_scores_for_an_ensemble_as_those_of_scalar_judges(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", PAIRS[:3])
    with serving(Replies(critic)) as url:
        run(tmp_path / "out", url, "--pairs", pairs, *words())
    answers = tmp_path / "out" / "answers.jsonl"
    alike = shutil.copy(answers, tmp_path / "alike.jsonl")
    call("ensemble", answers, alike, "--out", tmp_path / "both.jsonl")
    both = [json.loads(line) for line in (tmp_path / "both.jsonl").read_text().splitlines()]
    assert [row["scores"] for row in both] == [row["scores"] for row in rows(tmp_path / "out")]


@pytest.mark.parametrize(
    ("texts", "cause", "problems"),
    [
        ([["<answer>1</answer>"], [""]], "declined", ["declined", "no_reasoning", "empty"]),
        ([[], []], None, []),
        ([], None, []),
    ],
)
def test_a_response_without_any_score_leaves_the_pair_without_a_verdict(
    texts: list, cause: str | None, problems: list[str]
) -> None:
    (request,) = ordered_pairs([EvalPair("p", "q", "a", "b", 1)], "as-given")
    answer = {"text": "", "texts": texts, "tokens": 1, "truncated": False, "problem": None, "cause": cause}
    row = judged_row(request, answer, contract="pointwise")
    assert (row["verdict"], row["correct"], row["scores"], row["well_formed"]) == (None, None, None, False)
    assert row["problems"] == problems


def test_a_pair_whose_response_gets_no_answer_is_asked_for_again(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", PAIRS[:2])
    broken = Replies(lambda prompt, number: 1 / 0 if "worth 40" in prompt else critic(prompt, number))
    with serving(broken) as url, refused("judge.unanswered", count=1, total=4):
        run(tmp_path / "out", url, "--pairs", pairs, *words())
    assert [
        row["id"] for row in map(json.loads, (tmp_path / "out" / "answers.partial.jsonl").read_text().splitlines())
    ] == ["clear"]
    with serving(mended := Replies(critic)) as url:
        run(tmp_path / "out", url, "--pairs", pairs, *words())
    assert len(mended.prompts) == 2
    assert len(rows(tmp_path / "out")) == 2


def test_a_chain_s_evaluation_takes_the_contract_from_its_settings(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", PAIRS)
    settings = EvaluateSettings(contract="pointwise")
    with serving(Replies(critic)) as url:
        evaluation = Evaluation({"critic": Endpoint(url, "one")}, None, pairs, tmp_path / "answers", settings)
        judge_models(evaluation)
        summary = merge_models(evaluation, tmp_path / "out")["critic"]
    assert (summary["ties"], summary["unparsed"], summary["rows"], summary["orders"]) == (1, 1, len(PAIRS), 1)


def test_single_responses_have_no_order(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", PAIRS)
    with refused("eval.orders-of-scores"):
        run(tmp_path / "out", "http://127.0.0.1:9", "--pairs", pairs, *words("--orders", "both"))


def test_an_unknown_contract_is_refused() -> None:
    with refused("settings.unknown-value", name="contract", value="pairwise"):
        EvaluateSettings(contract="pairwise")
