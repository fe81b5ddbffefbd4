"""The stage that writes process reward's sets: what it makes, what it is made of, and a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.engine.stage import Given, StageRun
from jobs.stages.data import process_sets
from support.evaluate.taught import solutions_folder, taught
from support.refusals import refused

SETTINGS = process_sets.Settings(shards=1)


def given(**paths: object) -> dict[str, Given]:
    return {label: Given(str(path)) for label, path in paths.items()}


TAUGHT = given(solutions="s", descriptions="d", judgements="j")


def test_what_the_stage_makes_follows_from_what_it_is_given():
    def made(settings, **more):
        stage = process_sets.stage("sets", **TAUGHT, settings=settings, **more)
        return {artifact.path for artifact in stage.makes}

    alone = replace(SETTINGS, auditor="none", validation=0)
    assert made(alone) == {"vision_sft.jsonl", "step_judge.jsonl", "report.json"}
    assert made(alone, **given(contradictions="c")) - made(alone) == {"vision_dpo.jsonl"}
    assert made(replace(alone, auditor="judge"), **given(audits="a")) - made(alone) == {"audit.jsonl"}
    assert made(replace(alone, validation=0.1)) - made(alone) == {"vision_sft_val.jsonl", "step_judge_val.jsonl"}


def test_settings_that_contradict_the_inputs_are_refused_by_the_plan():
    with refused("settings.contradiction", auditor="judge"):
        process_sets.stage("sets", **TAUGHT, settings=SETTINGS)
    with refused("settings.contradiction", auditor="none"):
        process_sets.stage("sets", **TAUGHT, settings=replace(SETTINGS, auditor="none"), **given(audits="a"))
    measured = replace(SETTINGS, auditor="none", labels="measured")
    process_sets.stage("sets", **TAUGHT | {"judgements": None}, settings=measured)
    with refused("settings.contradiction", labels="teacher"):
        process_sets.stage("sets", **TAUGHT | {"judgements": None}, settings=replace(measured, labels="teacher"))
    with refused("settings.unknown-value", name="labels"):
        replace(SETTINGS, labels="mine")


@pytest.mark.slow
def test_the_stage_writes_every_set_that_it_says(tmp_path: Path):
    solutions = solutions_folder(tmp_path / "solutions", 6)
    made = taught(tmp_path, solutions)
    stage = process_sets.stage(
        "sets", **given(solutions=solutions, **made), settings=replace(SETTINGS, validation=0.3)
    )  # fmt: skip
    (tmp_path / "sets").mkdir()
    stage.run(StageRun(stage, tmp_path, SimpleNamespace(), stage.input_paths(tmp_path), lambda *told: None))
    for artifact in stage.makes:
        artifact.check(tmp_path / "sets" / artifact.path)
    assert len(stage.makes) == 9
