"""VisualProcessBench as a stage: the figures of its summary, and the settings of how the judge is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.stages.measuring import process_benchmark
from jobs.stages.measuring.process_benchmark import Settings
from proxygrm.core.settings import with_assignments
from proxygrm.evaluate.steps.release import read_release
from slurm import profile as profiles
from support.evaluate.http_judges import serving
from support.evaluate.solutions import Service, read, write
from support.evaluate.step_release import release, run_stage
from support.refusals import refused

pytestmark = pytest.mark.slow


def settings(*assignments: str) -> Settings:
    return with_assignments(Settings(judge_model="rule-process"), assignments)


def judged(folder: Path, service: Service, *assignments: str, name: str = "bench", count: int = 4) -> Path:
    """The stage's folder, after the service has judged drawn solutions."""
    data = folder / "release"
    if not data.exists():
        release(data, count)
    with serving(service) as url:
        stage = process_benchmark.stage(name, judge=url, data=str(data), settings=settings(*assignments))
        return run_stage(stage, folder / "run")


def figures(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())["judge"]


def test_the_summary_has_every_figure_with_its_interval_and_those_of_each_source(tmp_path):
    found = figures(judged(tmp_path, Service(), count=12))
    assert (found["macro_f1"], found["macro_f1_low"], found["macro_f1_high"]) == (1.0, 1.0, 1.0)
    assert found["by_source"]["WeMath"]["first_error_accuracy_low"] == 1.0
    assert (found["steps"], found["neutral_dropped"], found["descriptions"]) == (24, 12, 12)
    assert found["judged_by"].startswith("rule-process at http")
    assert found["notes"][0].startswith("PARTIAL")


def test_what_the_judge_is_shown_decides_what_it_finds(tmp_path):
    unseen = judged(tmp_path, Service(), "asking.description=none", name="a", count=12)
    assert [row["pred"] for row in read(unseen / "answers.jsonl")] == [[1, 1, -1]] * 12  # the sum alone is wrong
    empty = judged(tmp_path, Service(), "asking.description=structured", "asking.corruption=empty", name="b")
    assert read(empty / "answers.jsonl") == read(unseen / "answers.jsonl")
    assert 0 < figures(unseen)["macro_f1_low"] < figures(unseen)["macro_f1"] < figures(unseen)["macro_f1_high"] < 1
    text_only = judged(tmp_path, service := Service(), "asking.judge_sees_image=false", name="c")
    assert figures(text_only)["macro_f1"] == 1.0  # the description has what the image shows
    parts = {
        ("Is step" in text, len(body["messages"][-1]["content"]))
        for text, body in zip(service.texts, service.bodies, strict=True)
    }
    assert parts == {(True, 1), (False, 2)}


def test_a_solution_without_its_image_is_refused_or_judged_with_a_blank_one(tmp_path):
    data = release(tmp_path / "release", 4) / "test.jsonl"
    rows = read(data)
    write(data, [row | {"image": []} if at == 0 else row for at, row in enumerate(rows)])
    with refused("image.missing"):
        judged(tmp_path, Service(), "asking.description=structured", name="refused")
    blank = "missing_images=blank"
    out = judged(tmp_path, service := Service(), "asking.description=structured", blank)
    assert figures(out)["descriptions"] == 4
    assert not any("no_image_available" in text for text in service.texts)
    none = judged(
        tmp_path, service := Service(), "asking.description=structured", "asking.images=none", blank, name="none"
    )
    assert "descriptions" not in figures(none)
    assert {len(body["messages"][-1]["content"]) for body in service.bodies} == {1}


def test_labels_stay_what_people_gave_and_the_judges_verdicts_stand_beside_them(tmp_path):
    before = [solution.labels for solution in read_release(release(tmp_path / "release", 4))]
    out = judged(tmp_path, Service(edit=lambda text: "-1" if "Is step" in text else None))
    rows = read(out / "answers.jsonl")
    assert [row["label"] for row in rows] == [list(labels) for labels in before]
    assert [row["pred"] for row in rows] == [[-1, -1, -1]] * 4
    assert [solution.labels for solution in read_release(tmp_path / "release")] == before


def test_an_unreadable_verdict_is_what_the_setting_says_and_counted_in_each_case(tmp_path):
    preds = {}
    for unreadable in ("null", "1", "-1", "random"):
        service = Service(edit=lambda text: "Step 3 is wrong" if "Is step 3" in text else None)
        out = judged(tmp_path, service, f"asking.unreadable={unreadable}", name=f"u{unreadable}", count=12)
        preds[unreadable] = [row["pred"][2] for row in read(out / "answers.jsonl")]
        assert figures(out)["unreadable"] == {"unreadable": 12}
    assert [set(preds[name]) for name in ("null", "1", "-1", "random")] == [{None}, {1}, {-1}, {1, -1}]


def test_a_description_without_the_parts_is_none_and_counted(tmp_path):
    service = Service(edit=lambda text: "I see a shape." if "key_facts" in text else None)
    found = figures(judged(tmp_path, service, "asking.description=structured"))
    assert found["unreadable_descriptions"] == {"unreadable": 4}
    assert sum("(no description)" in text for text in service.texts) == 12


def test_a_sampled_description_is_the_same_whatever_else_a_setting_changes(tmp_path):
    """The released suite samples it anew for each setting, without a seed."""
    sampled, services = ("asking.description_temperature=0.7", "temperature=0.3"), []
    for name, more in (("a", "asking.instruction=lenient"), ("b", "asking.last_steps=0"), ("c", "seed=1")):
        judged(tmp_path, service := Service(), *sampled, more, name=name)
        services.append(sorted(str(body) for body in service.bodies if body["temperature"] == 0.7))
    same, again, other = services
    assert len(same) == 4
    assert same == again
    assert not {*same} & {*other}
    kept = read(tmp_path / "run" / "a" / "raw" / "process_describe.jsonl")[1:]
    assert all(f"'seed': {row['seed']}" in " ".join(same) for row in kept)


def test_a_killed_stage_resumes_at_the_call(tmp_path):
    with refused("judge.unanswered"):
        judged(tmp_path, Service(fail_after=9), "concurrency=1")
    assert not (tmp_path / "run" / "bench" / "summary.json").exists()
    judged(tmp_path, rest := Service())
    assert rest.calls == 16 - 9


def test_settings_that_cannot_be_meant_are_refused_with_their_names(tmp_path):
    with refused("settings.contradiction", name="corruption", value="drop"):
        settings("asking.corruption=drop", "asking.instruction=no_vision")
    with refused("settings.out-of-range", name="last_steps", value=-2):
        settings("asking.last_steps=-2")
    with refused("settings.wrong-type"):
        settings("asking.corruption=dropp")
    with refused("settings.out-of-range", name="corruption_ratio", value=1.5):
        settings("asking.corruption_ratio=1.5")
    with refused("settings.unknown-value", name="missing_images"):
        settings("missing_images=drop")
    stage = process_benchmark.stage("bench", judge="http://h:1", data=str(tmp_path), settings=Settings())
    assert stage.validate
    with refused("judge.no-model", role="judge"):
        stage.validate(stage, profiles.load("local"))


def test_the_fingerprint_has_the_instructions_in_use_and_where_it_runs_is_no_part_of_it(tmp_path):
    def of(*assignments: str):
        return process_benchmark.stage("b", judge="http://h:1", data=str(tmp_path), settings=settings(*assignments))

    assert of().prompts == ("process_describe", "process_step")
    assert of("asking.instruction=no_vision").prompts == ("process_step_no_vision",)
    assert of("on.mem_gb=9").fingerprint() == of().fingerprint() != of("asking.last_steps=1").fingerprint()
    assert of("judge=rule-based").fingerprint() != of().fingerprint()


def test_the_demos_stand_in_is_started_in_the_job_and_describes_what_it_judges(tmp_path):
    data = release(tmp_path / "release", 2)
    stage = process_benchmark.stage("bench", judge="rule-based", data=str(data), settings=Settings())
    assert stage.needs.keys() == {"data"}
    assert figures(run_stage(stage, tmp_path / "run"))["macro_f1"] == 1.0
