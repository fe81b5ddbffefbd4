"""The ensemble of models that were judged together: its figures beside theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxygrm.evaluate.ensemble.judged import ENSEMBLE, Judged, add_ensemble
from proxygrm.evaluate.models import Evaluation, judge_models, merge_models
from proxygrm.evaluate.settings import AS_GIVEN, EvaluateSettings
from support.refusals import refused

SCORES = {
    "a": {"RLAIF-V-0": (1.0, 0.0), "RLAIF-V-1": (1.0, 0.0), "RLAIF-V-2": (0.0, 1.0)},
    "b": {"RLAIF-V-0": (2.0, 0.0), "RLAIF-V-1": (0.0, 4.0), "RLAIF-V-2": (6.0, 0.0)},
}


def judged(folder: Path, models: str = "ab", bench: str = "pairs") -> Judged:
    """Three pairs, each model's scores from a file."""
    folder.mkdir()
    pairs = folder / "pairs.jsonl"
    row = {"question": "Which?", "chosen": "yes", "rejected": "no"}
    pairs.write_text("".join(json.dumps(row | {"id": id_, "chosen": f"yes {id_}"}) + "\n" for id_ in SCORES["a"]))
    files = {}
    for model in models:
        lines = [{"id": id_, "rewards": list(pair)} for id_, pair in SCORES[model].items()]
        files[model] = folder / f"scores-{model}.jsonl"
        files[model].write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = EvaluateSettings(orders=AS_GIVEN)
    evaluation = Evaluation(files, None, pairs, folder / "answers", settings, bench)
    judge_models(evaluation)
    merge_models(evaluation, folder)
    return Judged(folder)


def test_the_ensemble_stands_beside_its_members(tmp_path: Path) -> None:
    models = judged(tmp_path / "judged")
    made = add_ensemble(models, tmp_path / "out", "mean")
    assert made is not None
    summary = Judged(tmp_path / "out").summary
    assert {name: figures["accuracy"] for name, figures in summary.items()} == pytest.approx(
        {"a": 2 / 3, "b": 2 / 3, ENSEMBLE: 2 / 3}
    )
    assert summary[ENSEMBLE]["weights"] == {"a": 0.5, "b": 0.5}
    assert summary[ENSEMBLE].keys() - {"weights"} == summary["a"].keys()
    right = [json.loads(line)["correct"] for line in (tmp_path / "out" / "ensemble.jsonl").read_text().splitlines()]
    assert right == [True, False, True]
    assert (tmp_path / "out" / "a.jsonl").read_text() == (tmp_path / "judged" / "a.jsonl").read_text()


def test_weights_come_from_the_validation_pairs_of_each_model(tmp_path: Path) -> None:
    models, validation = judged(tmp_path / "judged"), judged(tmp_path / "validation")
    made = add_ensemble(models, tmp_path / "out", "margin", validation)
    assert made is not None
    assert list(made.weights.values()) == pytest.approx([1 / 5, 4 / 5])  # mean margins 1/3 and 4/3


def test_a_single_model_stays_alone(tmp_path: Path) -> None:
    models = judged(tmp_path / "judged", "a")
    assert add_ensemble(models, tmp_path / "out", "mean") is None
    assert Judged(tmp_path / "out").summary == models.summary
    assert not (tmp_path / "out" / "ensemble.jsonl").exists()


def test_a_part_of_a_benchmark_stays_partial(tmp_path: Path) -> None:
    add_ensemble(judged(tmp_path / "judged", bench="vl-rewardbench"), tmp_path / "out", "mean")
    summary = Judged(tmp_path / "out").summary
    assert {(row["partial"], row["expected"]) for row in summary.values()} == {(True, 1250)}


def test_judgements_over_other_pairs_are_refused(tmp_path: Path) -> None:
    models = judged(tmp_path / "judged")
    lines = models.files[1].read_text().splitlines(keepends=True)
    models.files[1].write_text("".join(lines[:2]))
    with refused("ensemble.other-pairs", path=models.files[1], ids=["RLAIF-V-2"]):
        add_ensemble(models, tmp_path / "out", "mean")
    assert not list((tmp_path / "out").iterdir())
