"""The summary of the evaluate stage, from answers that are there already: no model is loaded."""

from __future__ import annotations

import json

import pytest

from jobs.engine.stage import StageRun
from jobs.stages import checks
from jobs.stages.measuring import evaluate
from proxygrm.core.pairs import PairsWriter, arrange
from proxygrm.critique.contract import rubric_for_proxy
from proxygrm.evaluate.judges.base import made_by
from proxygrm.evaluate.judges.by_rubric import rubric_judge, with_rubric
from proxygrm.evaluate.models import Evaluation, judge_models, merge_models
from proxygrm.evaluate.rows.ordered_pair import ordered_pairs
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.rows.row_file import RowFile
from proxygrm.evaluate.settings import EvaluateSettings

SETTINGS = EvaluateSettings()


def folder_of(tmp_path, source, rows):
    with PairsWriter(tmp_path / source) as writer:
        for number, (name, category, group) in enumerate(rows):
            writer.add(
                arrange(f"{source}:{name}#{number}", source, f"q{number}", "good", "bad", [], "x", category, group)
            )
    return tmp_path / source


def judged(tmp_path, pairs, wrong):
    """A run in which `wrong` numbers (of judgements) are answered wrongly and number 1 not at all."""
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    out = tmp_path / "out"
    evaluation = Evaluation({"m": model}, None, pairs, out / "answers", SETTINGS)
    answers = out / "answers" / "models" / "m" / "raw" / "answers-00001-of-00001.jsonl"
    with RowFile(answers, made_by(model, "grm", SETTINGS, SETTINGS.max_tokens)) as file:
        for number, shown in enumerate(ordered_pairs(load_pairs(pairs))):
            verdict = 3 - shown.label if number in wrong else shown.label
            text = (
                "no" if number == 1
                else f"<rubric>1. Sees (100%)<justify>j</justify></rubric><eval>e</eval><answer>{verdict}</answer>"
            )  # fmt: skip
            file.append({"key": shown.key, "text": text, "tokens": 9, "truncated": False, "problem": None})
    judge_models(evaluation)
    merge_models(evaluation, out)
    return json.loads((out / "summary.json").read_text())["m"]


@pytest.mark.needs("swanlab")
def test_the_summary_has_the_figures_of_eval_score_and_its_own(tmp_path):
    rows = [("1", "mcq", "a"), ("2", "mcq", "a"), ("3", "video", "b"), ("4", "safety", "c")]
    figures = judged(tmp_path, folder_of(tmp_path, "mm_rlhf_rewardbench", rows), wrong={4, 5})
    assert (figures["bench"], figures["n"], figures["expected"], figures["partial"]) == (
        "mm-rlhf-rewardbench", 4, 4, False,
    )  # fmt: skip
    assert figures["overall"] == pytest.approx(5 / 8)
    assert {name: c["accuracy"] for name, c in figures["categories"].items()} == {"mcq": 0.75, "safety": 1, "video": 0}
    assert figures["acc_plus"] == pytest.approx(1 / 3)
    assert (figures["unparsed_share"], figures["consistency"]) == (1 / 8, 1.0)
    # What the report and the demo read.
    assert (figures["pairs"], figures["judgements"], figures["unparsed"]) == (4, 8, 1)
    assert figures["accuracy"] == pytest.approx(5 / 7)
    assert figures["by_category"]["video"]["accuracy"] == 0


@pytest.mark.needs("swanlab")
def test_rows_that_cannot_be_scored_as_their_benchmark_are_scored_as_pairs_with_a_note(tmp_path):
    figures = judged(tmp_path, folder_of(tmp_path, "multimodal_rewardbench", [("1", "", ""), ("2", "", "")]), wrong={2})
    assert (figures["bench"], figures["n"], figures["overall"]) == ("pairs", 2, 0.5)
    assert figures["notes"][-1].startswith(
        "not scored as Multimodal RewardBench: rows 1 and 3: the category is unknown"
    )


def run_stages(run_dir, pairs, model, shards):
    """The stages in order, as in their jobs; every answer is there already, in the file of the first shard."""
    settings = evaluate.Settings(shards=shards)
    stages = evaluate.stages(
        "evaluate", held_out=checks.pairs(str(pairs)), proxy=str(model), models={"m": str(model)}, settings=settings
    )
    first = run_dir / stages[0].name / "answers"
    name = f"answers-00001-of-{shards:05d}.jsonl"
    critique = "<rubric>1. Sees (100%)<justify>j</justify></rubric><eval>e</eval><answer>1</answer>"
    with (
        RowFile(first / "models" / "m" / "raw" / name, made_by(model, "grm", settings, settings.max_tokens)) as judged,
        RowFile(first / "proxy" / "raw" / name, rubric_judge(model, settings).made_by) as verdicts,
    ):
        for shown in ordered_pairs(load_pairs(pairs)):
            answer = {"tokens": 9, "truncated": False, "problem": None}
            judged.append({"key": shown.key, "text": critique, **answer})
            key = with_rubric(shown, rubric_for_proxy(critique)).key
            verdicts.append({"key": key, "text": "<answer>2</answer>", **answer})
    for stage in stages:
        inputs = stage.input_paths(run_dir)
        for cell in range(stage.array):
            stage.run(StageRun(stage, run_dir, None, inputs, lambda done, total, note: None, cell))
    return run_dir / "evaluate"


@pytest.mark.needs("swanlab")
def test_one_job_and_an_array_with_its_merge_write_the_same_files(tmp_path):
    pairs = folder_of(tmp_path, "own", [(str(number), "a", "") for number in range(5)])
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    one, three = (run_stages(tmp_path / f"run{shards}", pairs, model, shards) for shards in (1, 3))
    for name in ("m.jsonl", "summary.json"):
        assert (one / name).read_bytes() == (three / name).read_bytes()
    summary = json.loads((three / "summary.json").read_text())["m"]
    assert (summary["pairs"], summary["says_1"], summary["proxy_asked"], summary["proxy_agreement"]) == (
        5,
        1.0,
        10,
        0.5,
    )
    assert not (three / "answers").exists()
