"""A chain's evaluation and benchmarks by R1-Reward's contract: no proxy, its instruction, its strict parser."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.stages import checks
from jobs.stages.measuring import benchmarks, evaluate, transfer
from jobs.stages.measuring.evaluate import Settings
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.models import Evaluation, judge_models, merge_models
from proxygrm.evaluate.settings import EvaluateSettings
from support.evaluate.http_judges import AlwaysOne, serving
from support.evaluate.runs import demo_fixture  # noqa: F401
from support.refusals import refused


def test_models_of_a_chain_are_judged_and_scored_by_their_contract(demo: Path, tmp_path: Path) -> None:
    with serving(AlwaysOne()) as url:
        settings = EvaluateSettings(contract="r1", orders="drawn", max_pairs=8)
        models = {tag: Endpoint(url, "one", concurrency=1) for tag in ("sft", "rl")}
        evaluation = Evaluation(models, None, demo, tmp_path / "answers", settings)
        judge_models(evaluation)
        summary = merge_models(evaluation, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rl.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in rows].count(1) == 7
    assert {tuple(row["problems"]) for row in rows} == {(), ("answer_not_1_or_2",)}
    assert {row["proxy_asked"] for row in rows} == {False}
    assert {tag: (figures["pairs"], figures["unparsed"]) for tag, figures in summary.items()} == {
        "sft": (8, 1),
        "rl": (8, 1),
    }
    files = (tmp_path / "answers").rglob("*.jsonl")
    made_by = [json.loads(file.read_text().splitlines()[0])["made_by"]["prompt"] for file in files]
    assert set(made_by) == {prompt_hash("r1")}


def test_stages_ask_for_the_contract_s_instruction_and_nothing_of_the_proxy_s(tmp_path: Path) -> None:
    held_out, settings = checks.pairs(str(tmp_path)), Settings(contract="r1")
    (stage,) = evaluate.stages("judging", held_out=held_out, models={"rl": "model"}, settings=settings)
    assert (stage.prompts, "proxy" in stage.needs) == (("r1",), False)
    bench = benchmarks.Settings(contract="r1", vl_rewardbench=str(tmp_path))
    (scoring,) = benchmarks.stages("bench", models={"rl": "model"}, settings=bench)
    assert (scoring.prompts, scoring.config.contract) == (("r1",), "r1")
    with refused("settings.contradiction", contract="r1"):
        evaluate.stages("judging", held_out=held_out, proxy="proxy", models={"rl": "model"}, settings=settings)
    with refused("settings.contradiction", contract="r1"):
        transfer.Settings(contract="r1")
