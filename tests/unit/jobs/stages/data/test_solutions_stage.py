"""The solutions as a stage of a chain, and as a command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from jobs.cli.main import main
from jobs.engine.check import missing_inputs
from jobs.engine.space.amounts import measured
from jobs.engine.stage import Given, Stage, StageRun
from jobs.stages.data import solutions
from proxygrm.process.solutions import read_solutions
from slurm.profile import Profile
from slurm.sbatch import Resources
from support.refusals import code_of, refused
from support.rows.release_files import write_images
from support.rows.visualprm_files import conversation, lines, v11

ROWS = [
    conversation(["a", "b"], ["+", "+"]),
    conversation(["a", "c"], ["+", "-"]),
    conversation(["d"], ["+"], "Which?"),
]
QUICK = solutions.Settings(shards=2)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return v11(tmp_path / "release", {"UniGeo": ROWS, "GEOS": ROWS}, {"UniGeo": {"0.png": 1}, "GEOS": {"0.png": 2}})


def stage_of(release: Path, settings: solutions.Settings) -> Stage:
    return solutions.stage("solutions", release=str(release), settings=settings)


def run_of(stage: Stage, run_dir: Path) -> StageRun:
    return StageRun(stage, run_dir, SimpleNamespace(), stage.input_paths(run_dir), lambda done, total, unit: None)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", "solutions", *map(str, arguments)])


def test_the_stage_makes_a_solutions_folder(release: Path, tmp_path: Path) -> None:
    stage = stage_of(release, replace(QUICK, subsets=" UniGeo ,"))
    solutions.write(run_of(stage, tmp_path / "run"))
    made = tmp_path / "run" / "solutions" / "solutions"
    stage.makes[0].check(made)
    assert [each.subset for each in read_solutions(made)] == ["UniGeo"] * 3
    assert len(lines(made / "pairs.jsonl")) == 1
    solutions.given(str(made)).check(made)


def test_a_release_that_cannot_be_read_is_found_before_anything_is_sent(release: Path) -> None:
    def codes(subsets: str = "") -> list[str]:
        return [problem.code for problem in missing_inputs([stage_of(release, replace(QUICK, subsets=subsets))])]

    assert codes() == codes("GEOS,UniGeo") == []
    assert codes("Geos") == ["data.unknown-subset"]
    (release / "annotations" / "geos_prm.jsonl").unlink()
    assert codes() == ["data.subset-without-annotations"]
    assert codes("UniGeo") == []
    (release / "annotations.zip").touch()
    assert codes() == ["data.packed"]
    (problem,) = missing_inputs([stage_of(release / "none", QUICK)])
    assert problem.code == "submit.missing-input"
    with refused("stage.one-node-only"):
        stage = stage_of(release, replace(QUICK, on=Resources(nodes=2)))
        stage.validate(stage, Profile(name="x"))


def test_the_space_it_says_it_takes_is_enough(release: Path, tmp_path: Path) -> None:
    write_images(release / "images" / "GEOS", [f"{number}.png" for number in range(50)])
    stage = stage_of(release, QUICK)
    need = stage.needs["release"]
    assert isinstance(need, Given)
    space = solutions.disk(stage, lambda label: measured(need.resolve()))
    solutions.write(run_of(stage, tmp_path / "run"))
    assert measured(tmp_path / "run" / "solutions").size <= space.size
    assert space.makes["solutions"].rows == 6
    meta = json.loads((release / "meta.json").read_text())
    for entry in meta.values():
        del entry["length"]
    (release / "meta.json").write_text(json.dumps(meta))
    assert solutions.disk(stage, lambda label: measured(need.resolve())).makes["solutions"].rows == 6


@pytest.mark.parametrize("change", [{"shards": 0}, {"max_bad": 2.0}, {"threshold": -0.1}, {"questions": -1}])
def test_settings_out_of_bounds_are_refused(change: dict[str, float]) -> None:
    with refused("settings.out-of-range", name=next(iter(change))):
        solutions.Settings(**change)  # type: ignore[arg-type]


def test_another_folder_is_no_solutions_folder(tmp_path: Path) -> None:
    with refused("data.not-a-solutions-folder", path=tmp_path):
        solutions.given(str(tmp_path)).check(tmp_path)


def test_the_command_writes_the_folder_and_shows_what_it_read(release: Path, tmp_path: Path) -> None:
    result = call(release, "--out", tmp_path / "out", "--workers", 1, "--shards", 2)
    assert result.exit_code == 0, result.output
    assert "GEOS" in result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["kept"], report["pairs"]) == (6, 2)
    again = call(release, "--out", tmp_path / "out", "--workers", 1, "--shards", 2)
    assert "already done" in again.output


def test_the_command_runs_one_part_at_a_time(release: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out", "--subset", "GEOS", "--paired-only")
    assert call(release, *out, "--shard", "2/2").exit_code == 0
    assert not (tmp_path / "out" / "report.json").exists()
    assert call(release, *out, "--shard", "1/2").exit_code == 0
    assert call(release, *out, "--shards", 2, "--workers", 1).exit_code == 0
    assert [row["subset"] for row in lines(tmp_path / "out" / "solutions.jsonl")] == ["GEOS"] * 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda release: (release / "annotations" / "geos_prm.jsonl").unlink(), "data.subset-without-annotations"),
        (lambda release: (release / "images" / "GEOS" / "0.png").unlink(), "data.too-many-bad-rows"),
        (lambda release: (release / "images" / "GEOS" / "0.png").write_bytes(b"cut"), "data.too-many-bad-rows"),
        (lambda release: (release / "meta.json").write_text("{"), "file.damaged"),
    ],
)
def test_a_release_with_something_missing_ends_the_command_in_one_line(
    release: Path, tmp_path: Path, change: object, code: str
) -> None:
    change(release)  # type: ignore[operator]
    result = call(release, "--out", tmp_path / "out", "--workers", 1, "--shards", 1)
    assert (result.exit_code, code_of(result.output)) == (2, code)
    assert not (tmp_path / "out" / "solutions.jsonl").exists()
