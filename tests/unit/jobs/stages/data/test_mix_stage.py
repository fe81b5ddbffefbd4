"""The mixture as a stage of a chain, and as a command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from data_tools.mix.spec import read_spec as read_mixture
from data_tools.rows.preference import read_pairs
from jobs.cli.main import main
from jobs.engine import sweep
from jobs.engine.stage import Stage, StageRun
from jobs.recipes import find, read_spec
from jobs.stages.data import mix
from proxygrm.core.settings import with_assignments
from slurm.profile import Profile
from support.refusals import code_of, refused
from support.rows.filter_pairs import folder, pair

EXAMPLES = Path(__file__).parents[5] / "docs" / "examples"
SPEC = """
[sources.a]
pairs = "a"
cap = 3
[sources.b]
pairs = "b"
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        folder(tmp_path / "data" / name, [pair(f"{name}{i}") for i in range(5)])
    Path("mix.toml").write_text(SPEC)
    return tmp_path / "data"


def run_of(stage: Stage, run_dir: Path) -> StageRun:
    return StageRun(stage, run_dir, SimpleNamespace(), stage.input_paths(run_dir), lambda done, total, unit: None)


def test_the_stage_makes_a_pairs_folder(data, tmp_path, monkeypatch):
    stage = mix.stage("mix", settings=mix.Settings(spec="mix.toml", shards=3))
    mix.validate(stage, Profile(name="x"))
    run = run_of(stage, tmp_path / "run")
    monkeypatch.chdir("/")  # as in a job
    mix.mix(run)
    made = tmp_path / "run" / "mix" / "pairs"
    stage.makes[0].check(made)
    assert len(read_pairs(made)) == 8


def test_the_folder_of_the_pairs_folders_may_hold_empty_files(data):
    (data / "a" / "ingest_dropped.jsonl").write_text("")  # of an ingestion that dropped nothing
    stage = mix.stage("mix", settings=mix.Settings(spec="mix.toml"))
    for need in stage.needs.values():
        need.check(need.resolve())
    with refused("file.not-a-folder", path=data / "none"):
        stage.needs["root"].check(data / "none")


def test_the_example_has_a_mixture_of_its_own_for_each_cell_of_its_ablation(data):
    recipe, _ = find(str(EXAMPLES / "mixture.py"))
    spec = read_spec(recipe, str(EXAMPLES / "mixture_sources.toml"))
    mixtures = {
        cell.name: with_assignments(recipe.settings("base-reward"), cell.settings).mix.only.split(",")
        for cell in spec.cells
    }
    shipped = [name for name, _ in read_mixture("base-reward").sources]
    assert {name for only in mixtures.values() for name in only if name} == set(shipped)
    assert {only[0] for name, only in mixtures.items() if len(only) == 1 and only[0]} == set(shipped)
    stages = sweep.stages(recipe, recipe.settings("base-reward"), spec.cells, 0)
    assert len(stages) == len(spec.cells)
    assert len({stage.fingerprint() for stage in stages}) == len(stages)


def test_its_fingerprint_follows_the_spec_and_the_folders(data):
    def fingerprint(**settings):
        return mix.stage("mix", settings=mix.Settings(spec="mix.toml", **settings)).fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    assert len({first, fingerprint(seed=1), fingerprint(only="a")}) == 3
    Path("mix.toml").write_text(SPEC + "# more")
    assert fingerprint() != first


def test_an_ablation_leaves_sources_out_by_a_setting(data, tmp_path):
    stage = mix.stage("mix", settings=mix.Settings(spec="mix.toml", only="b"))
    mix.mix(run_of(stage, tmp_path / "run"))
    assert {row.id[:3] for row in read_pairs(tmp_path / "run" / "mix" / "pairs")} == {"s:b"}


def test_what_the_job_would_find_out_is_refused_before(data):
    Path("mix.toml").write_text(SPEC + '[sources.c]\npairs = "c"\n')
    profile = Profile(name="x")
    with refused("data.not-a-pairs-folder", path=str(data / "c")):
        mix.validate(mix.stage("mix", settings=mix.Settings(spec="mix.toml")), profile)
    with refused("settings.unknown-name", name="d"):
        mix.validate(mix.stage("mix", settings=mix.Settings(spec="mix.toml", only="d")), profile)
    with refused("settings.out-of-range", name="shards"):
        mix.Settings(shards=0)


def test_the_command_shows_what_each_source_gave_and_lost(data):
    def run(*words):
        return CliRunner().invoke(main, ["data", "mix", "mix.toml", "--out", "out", "--workers", "1", *words])

    done = run("--root", "data")
    assert done.exit_code == 0, done.output
    report = json.loads(Path("out/mix.json").read_text())
    assert {name: (each["read"], each["kept"], each["lost"]) for name, each in report["sources"].items()} == {
        "a": (5, 3, {"over_cap": 2}), "b": (5, 5, {}),
    }  # fmt: skip
    assert "over cap 2" in done.output
    assert "already done" in run("--root", "data").output
    assert code_of(run().output) == "file.missing"
    unknown = CliRunner().invoke(main, ["data", "mix", "no-such", "--out", "out"])
    assert (unknown.exit_code, code_of(unknown.output)) == (2, "file.missing")
