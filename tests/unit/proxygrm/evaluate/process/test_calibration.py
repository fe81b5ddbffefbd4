"""Calibration of the reliability: figures against known ones, what counts as a trial, and the command."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.stages.measuring.calibration import Settings, calibrate
from jobs.stages.measuring.calibration import stage as calibration_stage
from proxygrm.evaluate.process.calibration import Trial, calibration, read_trials
from proxygrm.evaluate.process.labelled import write_labelled
from slurm.sbatch import Resources
from support.evaluate.http_judges import serving
from support.evaluate.solutions import MODEL, Service, drawn_rows, process, read, write
from support.evaluate.taught import solutions_folder, teach
from support.refusals import code_of, refused

VALUES = (0.0, 0.3, 0.5, 0.8, 1.0)


def trials(count: int, informative: bool, seed: int = 0) -> list[Trial]:
    """Right as often as the reliability says, or every second time."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        value = chance.choice(VALUES)
        found.append(Trial(value, chance.random() < (value if informative else 0.5), number // 2))
    return found


def test_the_figures_are_those_of_their_definitions() -> None:
    few = [Trial(r, right, at) for at, (r, right) in enumerate([(0.2, False), (0.2, True), (0.9, True), (0.9, True)])]
    figures = calibration([*few, Trial(0.5, False, 9)], bins=2)
    pairs = [(1 if a > b else 0.5 if a == b else 0) for a in (0.2, 0.9, 0.9) for b in (0.2, 0.5)]
    assert figures["auroc"] == pytest.approx(sum(pairs) / 6)
    assert [(b["from"], b["trials"], b["right"]) for b in figures["bins"]] == [(0.0, 2, 0.5), (0.5, 3, 2 / 3)]
    assert figures["bins"][1]["reliability"] == pytest.approx(2.3 / 3)
    assert figures["ece"] == pytest.approx((2 * abs(0.2 - 0.5) + 3 * abs(2.3 / 3 - 2 / 3)) / 5)
    assert (figures["right_below"], figures["right_above"]) == (pytest.approx(1 / 3), 1.0)  # up to 0.5, and above
    assert figures["gap"] == pytest.approx(2 / 3)
    assert (figures["trials"], figures["right"]) == (5, 0.6)


def test_a_reliability_that_says_something_is_told_from_one_that_does_not() -> None:
    good, idle = calibration(trials(600, True), 5), calibration(trials(600, False), 5)
    assert good["auroc_low"] > 0.8
    assert good["gap_low"] > 0.4
    assert good["ece_high"] < 0.1
    assert idle["auroc_low"] < 0.5 < idle["auroc_high"]
    assert idle["gap_low"] < 0 < idle["gap_high"]
    assert idle["ece_low"] > 0.2
    for row in good["bins"]:
        assert row["low"] <= row["right"] <= row["high"]
    assert calibration(trials(600, True), 5) == good


def test_equal_trials_of_a_question_count_as_one_draw() -> None:
    once = trials(300, True)
    many = [trial for trial in once for _ in range(10)]
    one, other = calibration(once, 5), calibration(many, 5)
    assert other["auroc"] == pytest.approx(one["auroc"])
    assert other["auroc_high"] - other["auroc_low"] == pytest.approx(one["auroc_high"] - one["auroc_low"], rel=0.01)


def test_what_cannot_be_said_is_null() -> None:
    figures = calibration([Trial(0.9, True, 0), Trial(0.95, True, 1)], 10)
    assert (figures["auroc"], figures["auroc_low"], figures["right_below"], figures["gap"]) == (None,) * 4
    assert (figures["right_above"], len(figures["bins"])) == (1.0, 1)


def scored(*responses: dict[str, Any], **row: Any) -> dict[str, Any]:
    return {"question": "q", "image": "a.png", "answer": "3"} | row | {
        f"vlmresponse{at}": response for at, response in enumerate(responses, 1)
    }  # fmt: skip


def judged(reliability: float | None, visual: list[int], **response: Any) -> dict[str, Any]:
    return {"finalanswer": "3", "eval": {"local_p_score": reliability, "visual_step_indices": visual}} | response


def test_trials_are_visual_steps_with_a_label_or_solutions_and_the_rest_is_counted(tmp_path: Path) -> None:
    rows = [
        scored(judged(0.5, [0, 2], labels=[1, -1, -1]), judged(0.8, [], labels=[1])),
        scored(judged(None, [0], labels=[1]), judged(1.0, [0, 1], labels=[None]), {"finalanswer": "3"}),
        scored(judged(0.2, [0], finalanswer="4"), answer=None),
    ]
    file = write(tmp_path / "scored.jsonl", rows)
    steps = read_trials(file, "steps")
    assert [(t.reliability, t.right) for t in steps.trials] == [(0.5, True), (0.5, False)]
    assert steps.left_out == {"no_visual_steps": 1, "unknown_reliability": 1, "no_label": 3, "not_scored": 1}
    answers = read_trials(file, "answer")
    assert [(t.reliability, t.right) for t in answers.trials] == [(0.5, True), (1.0, True)]
    assert answers.left_out == {"no_visual_steps": 1, "unknown_reliability": 1, "not_scored": 1, "no_answer": 1}
    with refused("eval.no-trials", causes={"no_visual_steps": 1}):
        read_trials(write(tmp_path / "none.jsonl", [scored(judged(0.5, []))]), "steps")


def test_a_chain_whose_audits_cannot_be_read_has_no_figures_and_says_why(tmp_path: Path) -> None:
    file = write(tmp_path / "scored.jsonl", [scored(judged(None, [0]))])
    made = Stage("scores", calibrate, (Artifact("scored.jsonl"),), Resources())
    stage = replace(calibration_stage("calibration", scored=made / "scored.jsonl", settings=Settings()), needs={})
    run = StageRun(stage, tmp_path, None, {"scored": file}, lambda done, total, note: None)
    run.out.mkdir()
    stage.run(run)
    summary = json.loads((run.out / "summary.json").read_text())["reliability"]
    assert summary == {"against": "answer", "trials": 0, "bins": [], "left_out": {"unknown_reliability": 1}}
    assert "<svg" in (run.out / "reliability.svg").read_text()


@pytest.mark.slow
def test_the_command_says_it_of_the_scores_of_a_service(tmp_path: Path) -> None:
    rows = drawn_rows(tmp_path, 8, responses=2)
    for row in rows:
        row["vlmresponse1"]["labels"], row["vlmresponse2"]["labels"] = [1, 1], [-1, -1]
    target = tmp_path / "scored.jsonl"
    with serving(Service()) as url:
        process("score", "--input", write(tmp_path / "p.jsonl", rows), "--output", target, "--judge", url, *MODEL)
    done = process("calibrate", target, "--against", "steps", "--json", "--svg", tmp_path / "r.svg")
    figures = json.loads(done.stdout)
    assert (figures["trials"], figures["auroc"]) == (16, 1.0)
    assert (tmp_path / "r.svg").read_text().count("<circle") == len(figures["bins"]) + 2
    shown = process("calibrate", target).stdout
    assert "AUROC" in shown
    rows = [row | {"answer": None} for row in map(json.loads, target.read_text().splitlines())]
    done = process("calibrate", write(tmp_path / "x.jsonl", rows), code=2)
    assert code_of(done.stderr) == "eval.no-trials"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"local_p_score": float("nan")}, "unknown_reliability"), ({"local_p_score": 7}, "unknown_reliability"),
        ({"local_p_score": 10**400}, "unknown_reliability"), ({"local_p_score": "0.5"}, "unknown_reliability"),
        ({"visual_step_indices": 3}, "bad_visual_steps"), ({"visual_step_indices": ["0"]}, "bad_visual_steps"),
        ({"visual_step_indices": [-1]}, "bad_visual_steps"), ({"visual_step_indices": [7]}, "no_label"),
        ({"visual_step_indices": [1]}, "no_label"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_counted_by_its_cause(tmp_path: Path, change: dict[str, Any], cause: str) -> None:
    good = {"visual_step_indices": [0], "local_p_score": 0.5}
    row = {"question": "q", "vlmresponse1": {"eval": good, "labels": [1, True]}}
    bad = {"question": "q", "vlmresponse1": {"eval": good | change, "labels": [1, True]}}
    found = read_trials(write(tmp_path / "s.jsonl", [row, bad]), "steps")
    assert (found.trials, dict(found.left_out)) == ([Trial(0.5, True, ("q", "None"))], {cause: 1})


def test_labels_of_other_steps_than_those_that_were_scored_say_nothing(tmp_path: Path) -> None:
    scored = {"visual_step_indices": [0, 1], "local_p_score": 0.5, "raw_step_scores": [1.0, 1.0]}
    rows = [{"question": "q", "vlmresponse1": {"eval": scored, "labels": labels}} for labels in ([1], [1, 1, 1])]
    found = read_trials(write(tmp_path / "s.jsonl", rows), "steps", refuse_none=False)
    assert (found.trials, dict(found.left_out)) == ([], {"other_labels": 4})


def test_a_file_that_is_missing_or_has_another_row_than_an_object_is_refused(tmp_path: Path) -> None:
    assert code_of(process("calibrate", tmp_path / "no.jsonl", code=2).stderr) == "file.missing"
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\nnull\n")
    assert code_of(process("calibrate", rows, code=2).stderr) == "data.not-an-object"


@pytest.mark.slow
def test_labelled_solutions_are_scored_and_compared_step_by_step(tmp_path: Path) -> None:
    folder, judgements = solutions_folder(tmp_path / "solutions", images=4), tmp_path / "judgements"
    described = ("--descriptions", tmp_path / "descriptions")
    teach("describe", folder, tmp_path / "descriptions", Service())
    teach("judge", folder, judgements, Service(), *described)
    target, scores = tmp_path / "labelled.jsonl", tmp_path / "scored.jsonl"
    done = process("labelled", folder, "--judgements", judgements, "--output", target, "--questions", 3)
    assert "solutions 9, rows 3" in done.stderr
    first = read(target)[0]
    assert first["vlmresponse2"]["labels"] == [-1, None]
    assert [step["visualdependency"] is None for step in first["vlmresponse2"]["reasoningprocess"]] == [False, True]
    with serving(Service()) as url:
        process("score", "--input", target, "--images-root", folder, "--output", scores, "--judge", url, *MODEL)
    figures = json.loads(process("calibrate", scores, "--against", "steps", "--json").stdout)
    assert (figures["trials"], figures["auroc"], figures["gap"]) == (9, 1.0, 1.0)  # one error leaves 0.5
    assert [(row["trials"], row["right"]) for row in figures["bins"]] == [(3, 0.0), (6, 1.0)]
    with refused("data.nothing-labelled", counts={"not_judged": 12}):
        other = write(tmp_path / "other.jsonl", [read(judgements / "shard-000.jsonl")[0] | {"id": "elsewhere"}])
        write_labelled(folder, other, target)
