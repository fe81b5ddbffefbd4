"""learn-to-judge: a critic is judged by what it has learned, from the first plan to the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.export.critic_rows import CriticOptions
from data_tools.export.critic_set import write_critic_set
from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.demo_critic import BEST, WORST, write_demo_critic
from jobs.engine.stage import Given, Stage
from jobs.recipes import learn_to_judge as recipe
from jobs.stages.data import critic
from proxygrm.core.settings import with_assignments
from proxygrm.critique.think_answer import parse, parse_score
from proxygrm.report.contents import Report
from proxygrm.report.gather import gather
from slurm.profile import Profile
from support.refusals import refused

JUDGED = {"comparing": "r1", "scoring": "pointwise"}


def chain(*assignments: str, preset: str = "demo") -> dict[str, Stage]:
    settings = with_assignments(recipe.RECIPE.settings(preset), assignments)
    return {stage.name: stage for stage in recipe.RECIPE.stages(settings)}


@pytest.mark.parametrize("preset", ["paper", "demo", "quick"])
def test_each_way_of_judging_has_its_stages_before_and_after(preset: str) -> None:
    stages = chain(preset=preset)
    for name, contract in JUDGED.items():
        stage = stages[f"{name}_vl_rewardbench"]
        assert stage.config.contract == contract
        assert stage.prompts == (contract,)
        assert {f"{name}_before", f"{name}_after"} < set(stage.needs)
        assert isinstance(stage.needs[f"{name}_before"], Given)
    assert list(stages)[:2] == ["critic_tasks", "critic_sft"]
    assert list(stages)[-1] == "report"


@pytest.mark.parametrize(("kinds", "ties", "contracts"), [
    ("pointwise", "drop", {"pointwise"}), ("pairwise", "drop", {"r1"}), ("both", "drop", {"r1", "pointwise"}),
    ("both", "keep", {"r1-ties", "pointwise"}), ("pairwise", "keep", {"r1-ties"}),
])  # fmt: skip
def test_a_critic_is_judged_by_what_it_has_learned(kinds: str, ties: str, contracts: set[str]) -> None:
    stages = chain(f"critic_tasks.kinds={kinds}", f"critic_tasks.ties={ties}")
    judged = [stage for name, stage in stages.items() if name.startswith(("comparing", "scoring"))]
    assert {stage.config.contract for stage in judged} == contracts
    assert set(stages["report"].needs) == {stage.name for stage in judged}


def test_the_paper_s_preset_judges_as_the_benchmark_does() -> None:
    settings = recipe.paper().benchmarks
    assert (settings.votes, settings.temperature, settings.orders) == (5, 0.2, "drawn")


def test_without_rows_set_aside_the_trainer_holds_out_its_own() -> None:
    assert "validation" in chain()["critic_sft"].needs
    stages = chain("critic_tasks.validation=0")
    assert "validation" not in stages["critic_sft"].needs
    assert [made.path for made in stages["critic_tasks"].makes] == ["train.jsonl"]


def test_lora_is_merged_before_the_critic_is_judged() -> None:
    stages = chain("critic_sft.tuner_type=lora")
    assert stages["scoring_vl_rewardbench"].upstream()[-1].name == "critic_sft_merge"


@pytest.mark.parametrize(("setting", "code"), [
    ("kinds=scores", "settings.unknown-value"), ("ties=half", "settings.unknown-value"),
    ("validation=1.5", "settings.out-of-range"), ("shards=0", "settings.out-of-range"),
    ("max_bad=nan", "settings.out-of-range"),
])  # fmt: skip
def test_a_setting_that_makes_no_sense_is_refused(setting: str, code: str) -> None:
    with refused(code):
        chain(f"critic_tasks.{setting}")


def test_benchmarks_to_keep_out_are_needs_of_the_stage(tmp_path: Path) -> None:
    stage = critic.stage("x", release="r", settings=critic.Settings(against="a, b"))
    assert [need.path for need in stage.needs.values() if isinstance(need, Given)] == ["r", "a", "b"]
    with refused("data.not-a-pairs-folder", path=str(tmp_path)):
        stage.needs["against_1"].check(tmp_path)
    with refused("stage.one-node-only"):
        stage.validate(replace(stage, on=replace(stage.on, nodes=2)), Profile(name="x"))


def test_the_drawn_tasks_are_a_release_that_every_reader_takes(tmp_path: Path) -> None:
    write_demo_critic(tmp_path / "release", comparisons=30, scores=21, seed=3)
    report = write_critic_set(tmp_path / "release", tmp_path / "set", CriticOptions(), validation=0)
    assert (report["read"], report["kept"], report["bad"], report["dropped"]) == (51, 51, {}, {})
    assert report["rows"] == {"train": {"pairwise 1": 30, "pairwise 2": 30, "pointwise": 21}}
    rows = [json.loads(line) for line in (tmp_path / "set" / "train.jsonl").read_text().splitlines()]
    answers = [row["messages"][1]["content"] for row in rows]
    assert all(parse(answer).well_formed for answer in answers)
    assert {parse_score(a).score for a, row in zip(answers, rows, strict=True) if row["kind"] == "pointwise"} == {
        BEST,
        WORST,
    }
    ingest("llava-critic", tmp_path / "release", tmp_path / "pairs")
    assert len(read_pairs(tmp_path / "pairs")) == 30 + 10, "one of two scored answers of an image is better"
    write_demo_critic(tmp_path / "again", comparisons=30, scores=21, seed=3)
    for kind in ("pairwise", "pointwise"):
        files = [tmp_path / name / kind / "train.parquet" for name in ("release", "again")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_page_has_both_ways_of_judging_in_one_table(tmp_path: Path) -> None:
    """Their summaries are files of their own, about the same benchmark."""
    for name in JUDGED:
        folder = tmp_path / f"{name}_vl_rewardbench"
        folder.mkdir()
        figures = {"bench": "vl-rewardbench", "rows": 8, "overall": 0.5, "ties": 3, "unparsed": 1}
        summary = {f"{name}_{when}": figures for when in ("before", "after")}
        (folder / "summary.json").write_text(json.dumps(summary))
    report = recipe.RECIPE.report
    assert isinstance(report, Report)
    facts = gather(tmp_path, report)
    four = ["comparing_before", "comparing_after", "scoring_before", "scoring_after"]
    assert list(facts.summary) == four
    assert list(facts.benchmarks["vl-rewardbench"]) == four
    assert report.results
    assert list(report.results.models) == four
