"""`eval run --contract r1`: R1-Reward's instruction is sent, its judgements are read strictly, and its files scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from support.evaluate.http_judges import GOOD, AlwaysOne, serving
from support.evaluate.runs import call, demo_fixture, rows, run, scored, write  # noqa: F401
from support.refusals import refused


def test_a_judge_by_r1_reward_s_contract_votes_in_drawn_orders(demo: Path, tmp_path: Path) -> None:
    judge = AlwaysOne()
    words = ("--contract", "r1", "--votes", "3", "--orders", "drawn", "--temperature", "1", "--limit", "8")
    with serving(judge) as url:
        run(tmp_path, url, "--pairs", demo, "--model", "one", *words)
        with refused("file.made-by-other"):
            run(tmp_path, url, "--pairs", demo, "--model", "one", *words[2:])
    assert len(judge.prompts) == 24
    assert all(prompt.endswith("<think>your comparison</think><answer>1 or 2</answer>") for prompt in judge.prompts)
    judged = rows(tmp_path)
    assert {(row["verdict"], row["well_formed"], *row["problems"]) for row in judged} == {
        (1, True),
        (None, True, "answer_not_1_or_2"),
    }
    assert {row["evaluation"] for row in judged} == {"Both name red.\nSo 1."}
    report = json.loads((tmp_path / "run.json").read_text())
    assert (report["contract"], report["made_by"]["prompt"]) == ("r1", prompt_hash("r1"))
    assert report["why_unparsed"] == {"answer_not_1_or_2": 3}
    figures = scored(tmp_path)
    assert (figures["n"], figures["samples"], figures["unparsed"], figures["ballots"]["ballots"]) == (8, 3, 3, 8)


@pytest.mark.parametrize(
    ("text", "truncated", "verdict", "problems"),
    [
        (GOOD, False, 1, []),
        (GOOD.replace("</think>", "</think>\n"), False, 1, ["not_in_format"]),
        ("<think>It is 1, or", True, None, ["no_answer"]),
        ("", False, None, ["empty"]),
    ],
)
def test_a_judgement_is_read_by_its_contract(
    text: str, truncated: bool, verdict: int | None, problems: list[str]
) -> None:
    (request,) = ordered_pairs([EvalPair("p", "q", "a", "b", 1)], "as-given")
    answer = {"text": text, "tokens": 1, "truncated": truncated, "problem": None}
    row = judged_row(request, answer, contract="r1")
    assert (row["verdict"], row["problems"], row["rubric"], row["items"]) == (verdict, problems, None, [])


def test_scores_have_no_contract(demo: Path, tmp_path: Path) -> None:
    scores = write(tmp_path / "scores.jsonl", [{"id": "a", "score_1": 1, "score_2": 0}])
    with refused("option.no-effect", option="--contract"):
        run(tmp_path / "out", scores, "--pairs", demo, "--contract", "r1")
