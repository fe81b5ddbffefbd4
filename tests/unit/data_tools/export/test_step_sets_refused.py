"""Bad input of process reward's sets: other solutions, mixed teachers, half-written shards, lost images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.export.step_rows import StepSetOptions
from data_tools.export.step_sets import Sources, write_step_sets
from proxygrm.process.solutions import Solution, read_solutions
from support.evaluate.solutions import write
from support.evaluate.taught import rows, solutions_folder, taught, write_solutions
from support.refusals import refused

pytestmark = pytest.mark.slow

IMAGES = 4
JUDGE = StepSetOptions()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Sources:
    """What the rule-based teacher wrote about three solutions of each image."""
    folder = tmp_path_factory.mktemp("taught")
    solutions = solutions_folder(folder / "solutions", IMAGES)
    return Sources(solutions, **taught(folder, solutions))


def with_steps(made: Sources, folder: Path, steps: tuple[str, ...]) -> Sources:
    folder.mkdir()
    (folder / "images").symlink_to(made.solutions / "images")
    changed = [replace(solution, steps=steps) for solution in read_solutions(made.solutions)]
    write_solutions(folder, changed)
    return replace(made, solutions=folder)


def test_what_the_teacher_wrote_about_other_solutions_is_refused(made, tmp_path):
    with refused("teacher.other-solutions", path=made.judgements, id="s0/0"):
        write_step_sets(with_steps(made, tmp_path / "steps", ("Other.", "Else.")), tmp_path / "x", JUDGE)
    others = [row | {"id": f"other {row['id']}"} for row in rows(made.judgements)]
    judgements = write(tmp_path / "j.jsonl", others)
    with refused("teacher.other-solutions", path=judgements):
        write_step_sets(replace(made, judgements=judgements), tmp_path / "x", JUDGE)
    audits = write(tmp_path / "a.jsonl", [row | {"checklist": "- the sky is blue"} for row in rows(made.audits)])
    with refused("teacher.other-solutions", path=audits):
        write_step_sets(replace(made, audits=audits), tmp_path / "x", JUDGE)
    described = write(tmp_path / "d.jsonl", [row | {"question": "Else?"} for row in rows(made.descriptions)])
    with refused("teacher.other-solutions", path=described):
        write_step_sets(replace(made, descriptions=described), tmp_path / "x", JUDGE)
    assert not list((tmp_path / "x").glob("*.json*"))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lines: [*lines[:-1], lines[-1][:40]], "file.bad-row"),
        (lambda lines: [*lines, lines[0]], "teacher.repeated-row"),
        (lambda lines: [lines[0].replace(b"rule-process", b"another"), *lines[1:]], "teacher.mixed-models"),
        (lambda lines: [lines[0].replace(b'"score": 1', b'"score": 0'), *lines[1:]], "teacher.bad-row"),
        (lambda lines: [lines[0].replace(b'"category": null', b'"category": ""'), *lines[1:]], "teacher.bad-row"),
        (lambda lines: [], "teacher.no-rows"),
    ],
)
def test_a_half_written_shard_and_answers_of_mixed_teachers_are_refused_by_row(made, tmp_path, change, code):
    folder = tmp_path / "judgements"
    folder.mkdir()
    lines = (made.judgements / "shard-000.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "shard-000.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    (folder / "shard-001.jsonl").write_bytes(b"".join(change(lines[len(lines) // 2 :])))
    if not change(lines):
        (folder / "shard-000.jsonl").unlink()
    with refused(code):
        write_step_sets(replace(made, judgements=folder), tmp_path / "sets", JUDGE)


def test_solutions_without_images_are_bad_and_those_the_teacher_left_out_are_counted(made, tmp_path):
    solutions = tmp_path / "solutions"
    solutions.mkdir()
    (solutions / "images").symlink_to(made.solutions / "images")
    gone = Solution("gone", "x", "Where?", ("images/gone.png",), ("Here.",), (1,), None, True, None)
    new = replace(next(read_solutions(made.solutions)), id="new", question="What else?")
    write_solutions(solutions, [*read_solutions(made.solutions), gone, new])
    judged = write(tmp_path / "j.jsonl", rows(made.judgements)[1:])
    sources = replace(made, solutions=solutions, judgements=judged)
    with refused("data.too-many-bad-rows", bad=1):
        write_step_sets(sources, tmp_path / "x", JUDGE)
    report = write_step_sets(sources, tmp_path / "sets", JUDGE, validation=0, max_bad=0.1)
    assert (report["bad"], report["dropped"]) == ({"missing_image": 1}, {"no_description": 1, "no_judgement": 1})
    assert (report["read"], report["kept"]) == (3 * IMAGES + 2, 3 * IMAGES)


def test_a_set_without_rows_is_refused_and_nothing_is_written(made, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    (one / "images").symlink_to(made.solutions / "images")
    write_solutions(one, list(read_solutions(made.solutions))[:3])
    with refused("data.empty-set", name="vision_sft"):  # its one image is held off
        write_step_sets(replace(made, solutions=one), tmp_path / "x", JUDGE, validation=0.5)
    assert not list((tmp_path / "x").glob("*.jsonl"))


def test_no_set_takes_the_place_of_what_a_teacher_wrote(made, tmp_path):
    (shard,) = made.audits.glob("shard-*.jsonl")
    audits = tmp_path / "audit.jsonl"
    audits.write_bytes(shard.read_bytes())
    with refused("option.out-is-input", path=audits):
        write_step_sets(replace(made, audits=audits), tmp_path, JUDGE)
    assert audits.read_bytes() == shard.read_bytes()


def test_the_solutions_folder_keeps_its_own_report(made, tmp_path):
    with refused("option.bad-out", path=made.solutions):
        write_step_sets(made, made.solutions, JUDGE)
