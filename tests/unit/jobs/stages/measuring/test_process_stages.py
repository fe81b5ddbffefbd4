"""Candidates, step scores and the choice among them, as stages on the demo's rules behind the real HTTP API."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_tools.sources.demo_solutions import write_demo_solutions
from jobs.engine.stage import Given, Output, Stage, StageRun
from jobs.stages.measuring import best_of_n, process_sample, process_score
from proxygrm.process.aggregate import AGGREGATORS
from slurm import profile as profiles
from support.refusals import refused

pytestmark = pytest.mark.slow

QUESTIONS, CANDIDATES = 12, 6


def chain(folder: Path, policy: str = "rule-based", **models: str) -> tuple[Stage, Stage, Stage]:
    images = Given(str(folder / "questions"))
    sampled = process_sample.stage(
        "sample",
        questions=Given(str(folder / "questions" / "questions.jsonl")),
        images=images,
        settings=process_sample.Settings(policy=policy, candidates=CANDIDATES, max_questions=QUESTIONS),
    )
    own = {"judge": "rule-based", "extractor": "rule-based", "auditor": "rule-based"}
    scored = process_score.stage(
        "score", solutions=sampled / "policy.jsonl", images=images, settings=process_score.Settings(**models), **own
    )
    return sampled, scored, best_of_n.stage("bon", scored=scored / "scored.jsonl", settings=best_of_n.Settings())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("process")
    write_demo_solutions(folder, images=2, solutions=2, questions=2 * QUESTIONS, seed=0)
    for stage in chain(folder):
        each = StageRun(stage, folder / "run", None, stage.input_paths(folder / "run"), lambda done, total, note: None)
        each.out.mkdir(parents=True)
        stage.run(each)
        for made in stage.makes:
            made.check(each.out / made.path)
    return folder / "run"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_policy_solves_the_first_questions_so_many_times(run: Path) -> None:
    sampled = rows(run / "sample" / "policy.jsonl")
    assert [row["id"] for row in sampled] == [f"drawn {n}" for n in range(QUESTIONS)]
    answers = [row[f"vlmresponse{n}"]["finalanswer"] for row in sampled for n in range(1, CANDIDATES + 1)]
    assert len(answers) == QUESTIONS * CANDIDATES
    assert json.loads((run / "sample" / "report.json").read_text())["without_steps"] == 0


def test_every_step_is_judged_and_a_misread_number_lowers_the_reliability(run: Path) -> None:
    seen = Counter[tuple[float, ...]]()
    for row in rows(run / "score" / "scored.jsonl"):
        for n in range(1, CANDIDATES + 1):
            judged = row[f"vlmresponse{n}"]["eval"]
            seen[(judged["local_p_score"], *judged["raw_step_scores"])] += 1
    assert set(seen) == {(1.0, 1, 1), (1.0, 1, -1), (0.5, -1, 1)}
    report = json.loads((run / "score" / "report.json").read_text())
    assert (report["rows"], report["responses"], report["steps"]) == (QUESTIONS, 72, 144)
    assert report["unreadable_verdicts"] == {}


def test_rules_without_a_mistake_choose_a_right_candidate_and_leave_the_gate_nothing_to_do(run: Path) -> None:
    summary = json.loads((run / "bon" / "summary.json").read_text())
    assert list(summary) == list(AGGREGATORS)
    for figures in summary.values():
        assert (figures["questions"], figures["candidates"]) == (QUESTIONS, CANDIDATES)
        assert figures["gated"] == figures["judged"] == figures["pass"]
        assert figures["random"] < 0.8
        assert (figures["gate"], figures["gate_low"], figures["gate_high"]) == (0, 0, 0)
        assert figures["better"] == figures["worse"] == 0
    curves = json.loads((run / "bon" / "curves.json").read_text())
    assert curves["final"]["drawn"]["bon"]["mean"][str(CANDIDATES)]["value"] == summary["mean"]["gated"]


def test_a_model_of_the_settings_stands_for_the_recipe_s_own(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    _, scored, _ = chain(tmp_path, judge=str(tmp_path / "model"))
    assert isinstance(scored.needs["judge"], Given)
    assert (scored.config.judge, scored.config.auditor) == ("", "rule-based")
    trained = chain(tmp_path)[0]
    settings = process_score.Settings(auditor="http://host", auditor_model="auditor")
    own = trained / "policy.jsonl"
    stage = process_score.stage(
        "s", solutions=own, images=Given("i"), judge=own, extractor=own, auditor=own, settings=settings
    )
    assert {role for role, need in stage.needs.items() if isinstance(need, Output)} == {
        "solutions", "judge", "extractor",
    }  # fmt: skip
    assert stage.config.auditor == "http://host"


def test_an_endpoint_needs_the_name_of_its_model(tmp_path: Path) -> None:
    sampled, scored, _ = chain(tmp_path, policy="http://host", auditor="http://other")
    for stage, role, url in ((sampled, "policy", "http://host"), (scored, "auditor", "http://other")):
        assert stage.validate
        with refused("judge.no-model", role=role, url=url):
            stage.validate(stage, profiles.load("local"))


@pytest.mark.parametrize(("kind", "setting"), [
    (process_sample.Settings, {"candidates": 0}), (process_sample.Settings, {"candidates": 1025}),
    (process_sample.Settings, {"max_questions": -1}),
    (process_score.Settings, {"audit_tokens": 0}), (process_score.Settings, {"concurrency": 0}),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(kind: Any, setting: dict[str, Any]) -> None:
    with refused("settings.out-of-range"):
        kind(**setting)


def test_an_unknown_rule_for_unreadable_audits_is_refused() -> None:
    with refused("settings.unknown-value", name="unreadable_audit"):
        process_score.Settings(unreadable_audit="forget")


def test_an_unknown_aggregator_is_refused() -> None:
    with refused("settings.unknown-name", name="means"):
        best_of_n.Settings(aggregators=("mean", "means"))
