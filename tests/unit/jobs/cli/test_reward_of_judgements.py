"""`proxygrm reward score --contract r1`: R1-Reward's formula, lost judgements, bad rows, and options of the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.cli.main import main
from support.refusals import code_of

GOOD = "<think>Both name red.\nOnly the first is right.\nSo 1.</think><answer>1</answer>"
LOOSE = GOOD.replace("</think>", "</think>\n")
WRONG = GOOD.replace("<answer>1", "<answer>2")


def score(folder: Path, rows: list[Any], *options: str) -> tuple[Result, list[dict[str, Any]]]:
    source, target = folder / "rows.jsonl", folder / "scored.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" if not isinstance(row, str) else row + "\n" for row in rows))
    files = ["--input", str(source), "--output", str(target), "--contract", "r1"]
    result = CliRunner().invoke(main, ["reward", "score", *files, *options])
    lines = target.read_text().splitlines() if target.exists() else []
    return result, [json.loads(line) for line in lines]


def row(response: str = GOOD, ground_truth: Any = 1, consistency: Any = 1, **more: Any) -> dict[str, Any]:
    return {"response": response, "ground_truth": ground_truth, "consistency": consistency, **more}


def test_a_row_keeps_its_fields_and_gets_the_score_and_what_a_judge_is_shown(tmp_path: Path) -> None:
    result, (scored,) = score(tmp_path, [row(id="ü")])
    assert result.exit_code == 0, result.output
    assert scored == row(
        id="ü",
        format=1,
        accuracy=1,
        score=2.0,
        judge_excerpt="<think>Both name red.;Only the first is right.;So 1.</think>",
        judge_answer_phrase="response 1 is better",
    )


@pytest.mark.parametrize(
    ("rollout", "value", "reason"),
    [
        (row(), 2.0, None),
        (row(consistency=0), 1.5, None),
        (row(consistency=-1), 1.0, None),
        (row(consistency=0.5), 1.75, None),
        (row(LOOSE), 1.5, "not_in_format"),
        (row(LOOSE, consistency=-1), 0.5, "not_in_format"),
        (row(WRONG), 0.5, None),
        (row(WRONG, consistency=None), 0.5, None),
        (row(GOOD, 2, consistency=-1), 0.5, None),
        (row("1", consistency=None), 0.0, "no_answer"),
        (row(GOOD.replace("<answer>1", "<answer>10")), 0.5, "answer_not_1_or_2"),
        (row(GOOD + "<answer>1</answer>"), 0.0, "repeated_answer"),
        (row(consistency=None), None, "unscored"),
        (row(LOOSE, consistency=None), None, "unscored"),
        (row(GOOD, "<answer>1</answer>"), 2.0, None),
        (row(GOOD, ["<answer>2</answer>", 1]), 2.0, None),
        (row(GOOD, [1]), 2.0, None),
        (row(GOOD, ["1", "2"]), 2.0, None),
    ],
)
def test_the_formula(rollout: dict[str, Any], value: float | None, reason: str | None, tmp_path: Path) -> None:
    _, (scored,) = score(tmp_path, [rollout])
    assert (scored["score"], scored.get("reason")) == (value, reason)


def test_as_upstream_a_lost_judgement_counts_as_0(tmp_path: Path) -> None:
    rows = [row(consistency=None), row(LOOSE, consistency=None), row(WRONG, consistency=None), row(consistency=-1)]
    _, scored = score(tmp_path, rows, "--compat", "upstream")
    assert [(each["score"], each.get("reason")) for each in scored] == [
        (1.5, "no_consistency"),
        (1.0, "no_consistency"),
        (0.5, None),
        (1.0, None),
    ]


def test_rollouts_of_rl_that_lost_their_reward_are_unscored_by_their_cause(tmp_path: Path) -> None:
    lost = row(consistency=0.0, unscored=1.0, problem="judge_timeout")
    result, (scored,) = score(tmp_path, [lost])
    assert (scored["score"], scored["reason"]) == (None, "unscored")
    assert "judge timeout 1" in result.output


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ("{", "not_json"),
        ("[1]", "not_an_object"),
        ({"ground_truth": 1, "consistency": 1}, "no_response"),
        (row(ground_truth=None), "no_label"),
        (row(ground_truth=[]), "bad_label"),
        (row(ground_truth=[1, 3]), "bad_label"),
        (row(ground_truth=True), "bad_label"),
        ({"response": GOOD, "ground_truth": 1}, "no_consistency"),
        (row(consistency="1"), "bad_consistency"),
        (row(consistency=True), "bad_consistency"),
        (row(consistency=10), "bad_consistency"),
        ('{"response": "x", "ground_truth": 1, "consistency": NaN}', "bad_consistency"),
    ],
)
def test_a_row_that_is_no_judgement_is_left_out_by_its_cause(bad: Any, cause: str, tmp_path: Path) -> None:
    result, scored = score(tmp_path, [row(), bad], "--max-bad", "0.5")
    assert result.exit_code == 0, result.output
    assert len(scored) == 1
    (dropped,) = (tmp_path / "scored.jsonl.dropped.jsonl").read_text().splitlines()
    assert json.loads(dropped)["reason"] == cause


@pytest.mark.parametrize("option", ["--aggregation=sum", "--no-proxy", "--deny-leaks"])
def test_options_of_the_proxy_s_contract_are_refused(option: str, tmp_path: Path) -> None:
    result, scored = score(tmp_path, [row()], option)
    assert result.exit_code != 0
    assert not scored
    assert code_of(result.output) == "option.no-effect"
    assert option.partition("=")[0] in result.output
    assert result.output.strip().count("\n") == 0
