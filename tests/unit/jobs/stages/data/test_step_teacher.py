"""The teacher's stage: what it is made of, and calls with the rule-based service started in the job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.engine.stage import Given, Stage, StageRun
from jobs.stages.data import step_teacher
from proxygrm.process.solutions import read_solutions
from slurm import profile as profiles
from support.evaluate.taught import report, rows, solutions_folder, write_solutions
from support.refusals import refused

SETTINGS = step_teacher.Settings(concurrency=4)


def run(stage: Stage, folder: Path) -> Path:
    """All elements of the array, each until everything is done; the answers."""
    (folder / stage.name).mkdir()
    for cell in range(stage.array):
        told: list[tuple[int, int]] = []
        stage.run(
            StageRun(
                stage, folder, profiles.load("local"), stage.input_paths(folder),
                lambda done, total, note, told=told: told.append((done, total)), cell=cell,
            )
        )  # fmt: skip
        assert told[0][0] == 0
        assert told[-1][0] == told[-1][1] > 0
    return folder / stage.name / "answers"


@pytest.mark.slow
def test_a_call_runs_in_shards_and_the_next_one_reads_what_they_wrote(tmp_path):
    folder = solutions_folder(tmp_path / "solutions", 3)
    first, *others = read_solutions(folder)
    write_solutions(folder, [first, *others, replace(first, id="as the first")])
    solutions = Given(str(folder))
    described = step_teacher.stage("d", asks="describe", solutions=solutions, settings=replace(SETTINGS, shards=2))
    known = {"solutions": solutions, "settings": SETTINGS, "descriptions": described / "answers"}
    judged = step_teacher.stage("j", asks="judge", **known)
    contradicted = step_teacher.stage("c", asks="contradict", **known)
    audited = step_teacher.stage(
        "a", asks="audit", **known, judgements=judged / "answers", contradictions=contradicted / "answers"
    )
    assert {each.name for each in audited.upstream()} == {"d", "j", "c"}
    written = {stage.name: run(stage, tmp_path) for stage in (described, judged)}
    assert [len(rows(written["d"], shard)) for shard in (0, 1)] == [2, 1]
    judgements = {row["id"]: row["steps"] for row in rows(written["j"])}
    assert len(judgements) == 10
    assert judgements["as the first"] == judgements[first.id]
    assert [report(written["d"], shard)["shard"] for shard in (0, 1)] == ["1/2", "2/2"]
    assert {row["model"] for row in rows(written["j"])} == {"rule-process"}


def test_the_instruction_and_what_is_asked_are_part_of_what_the_stage_is_made_of():
    solutions = Given("solutions")
    stages = [
        step_teacher.stage("t", asks=asks, solutions=solutions, settings=SETTINGS) for asks in step_teacher.PROMPTS
    ]
    assert len({stage.fingerprint() for stage in stages}) == 4
    assert [stage.prompts for stage in stages] == [(prompt,) for prompt in step_teacher.PROMPTS.values()]


def test_a_second_try_that_would_repeat_the_first_is_refused():
    with refused("settings.contradiction", tries=3):
        step_teacher.Settings(teacher="https://host/v1", temperature=0)
    step_teacher.Settings(teacher="https://host/v1", temperature=0, tries=1)
    with refused("settings.out-of-range", name="max_failed"):
        step_teacher.Settings(max_failed=2)
