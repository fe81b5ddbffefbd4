"""The recipe EVPV-PRM as a shortened chain of real jobs: a teacher, its sets, four trainings, scores, best of N and the
page. One run, several looks at it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import LocalCluster, log_of, send, until_ended

from jobs.engine.request import Request, save
from jobs.engine.run_folder.ledger import Ledger
from jobs.recipes import drawn_solutions, find, read_spec, resolve
from jobs.recipes.drawn_pairs import MODEL
from proxygrm.core.checkpoints.identity import checkpoint_identity
from proxygrm.core.checkpoints.kinds import kind_of
from proxygrm.critique.prompts import IMAGE_TAG
from proxygrm.process.checklist import Step
from proxygrm.process.stages import ScoreSettings, step_texts
from slurm.profile import Health, Node, Profile, Scheduler

pytestmark = [pytest.mark.cluster, pytest.mark.heavy]

PROFILE = Profile(
    "test",
    scheduler=Scheduler(partition="gpu", signal_before_end_s=60),
    node=Node(device="cpu"),
    health=Health(preflight=False),
)
IMAGES = 24
RECIPE = "evpv-prm:quick"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, local_cluster: LocalCluster) -> Path:
    """The finished run folder."""
    with pytest.MonkeyPatch.context() as environment:
        for key, value in local_cluster.env.items():
            environment.setenv(key, value)
        return finished(tmp_path_factory.mktemp("evpv"))


def finished(folder: Path) -> Path:
    drawn_solutions.draw(folder, images=IMAGES, solutions=4, questions=3)
    resolved = resolve(Request(recipe=RECIPE, assignments=assignments_of(folder)))
    stages, ledger = resolved.stages, Ledger(folder / "run")
    save(resolved, ledger)  # what the page shows is in it
    send(stages, ledger, PROFILE)
    ended = until_ended(stages, ledger, 600)
    for stage in stages:
        assert ended[stage.name].word == "done", log_of(stage, ledger)
    return ledger.folder


def assignments_of(folder: Path) -> tuple[str, ...]:
    settings = {
        "release": folder / "release", "labelled_release": folder / "held_out", "start": folder / MODEL,
        "questions": folder / "questions" / "questions.jsonl",
        "visualprocessbench": folder / "visualprocessbench", "process_benchmark.max_pairs": 2,
        "training_sets.auditor": "judge", "scored_candidates.auditor": "",
        "extractor_sft.max_steps": 24, "judge_sft.max_steps": 16, "extractor_dpo.max_steps": 1,
        **{f"{name}.per_device_train_batch_size": 8 for name in ("extractor_sft", "judge_sft")},
    }  # fmt: skip
    return tuple(f"{name}={value}" for name, value in settings.items())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(run: Path, stage: str) -> dict[str, Any]:
    return json.loads((run / stage / "summary.json").read_text())


def test_the_judge_is_trained_on_the_instruction_that_it_is_asked_later(run: Path) -> None:
    """In the released scripts it learns a list for the whole solution, and is asked for one number."""
    taught = rows(run / "training_sets" / "step_judge.jsonl")
    verdicts = [row for row in taught if row["messages"][1]["content"] in ("1", "-1")]
    assert verdicts
    assert len(verdicts) < len(taught), "the audits are in it too"
    scored = rows(run / "scored_candidates" / "scored.jsonl")[0]
    steps = [Step(step["steptext"]) for step in scored["vlmresponse1"]["reasoningprocess"]]
    asked = step_texts(scored["question"], "DESCRIPTION", steps, ScoreSettings())[0]
    head = IMAGE_TAG + asked.split(scored["question"])[0]
    assert all(row["messages"][0]["content"].startswith(head) for row in verdicts)


def test_the_images_of_both_subsets_are_their_own(run: Path) -> None:
    """Both subsets call them 0.png, 1.png, ...; each is there once, by its content."""
    solutions = rows(run / "prm_data" / "solutions" / "solutions.jsonl")
    assert {len(solution["image"]) for solution in solutions} == {1}
    images = {solution["subset"]: set[str]() for solution in solutions}
    for solution in solutions:
        images[solution["subset"]].add(solution["image"][0])
    assert sorted(map(len, images.values())) == [IMAGES // 2, IMAGES // 2]
    assert not set.intersection(*images.values())


def test_each_training_changed_the_model_that_the_next_one_starts_from(run: Path) -> None:
    dpo = rows(run / "extractor_dpo" / "metrics.jsonl")[-1]
    assert dpo["step"] == 1
    base = json.loads((run / "extractor_dpo" / "adapter" / "base.json").read_text())["checkpoint"]
    start = json.loads((run / "judge_sft" / "model" / "step_judge.json").read_text())["start"]
    assert base == checkpoint_identity(run / "extractor_sft" / "model")
    assert start == checkpoint_identity(run / "extractor_dpo_merge" / "model")
    assert kind_of(run / "judge_sft" / "model") == "process"
    assert kind_of(run / "extractor_dpo_merge" / "model") == "generative"


def test_best_of_n_the_benchmark_and_the_page_are_there(run: Path) -> None:
    chosen = summary(run, "chosen_candidates")["mean"]
    assert (chosen["questions"], chosen["candidates"]) == (3, 2)
    assert chosen["gate_low"] <= chosen["gate"] <= chosen["gate_high"]
    assert max(chosen["gated"], chosen["judged"]) <= chosen["pass"]
    assert summary(run, "process_benchmark")["judge"]["solutions"] == 2
    reliability = summary(run, "step_calibration")["reliability"]
    labelled = rows(run / "labelled_steps" / "labelled.jsonl")
    assert reliability["against"] == "steps"
    assert json.loads((run / "labelled_steps" / "report.json").read_text())["rows"] == len(labelled) > 0
    assert (run / "step_calibration" / "reliability.svg").read_text().startswith("<svg")
    page = (run / "report" / "report.html").read_text()
    assert all(words in page for words in ("vision DPO", "Best of N, with the gate and without", "step judge", "67.46"))


def test_studies_repeat_one_stage_on_what_the_run_has_and_end_in_a_table(
    run: Path, local_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in local_cluster.env.items():
        monkeypatch.setenv(key, value)
    ledger, chain = Ledger(run), {path.parent.name for path in run.glob("*/DONE.json")}
    for name, only in (("gate", ()), ("perception", ("numbers-flipped",))):
        spec = read_spec(find(RECIPE)[0], name, only)
        request = Request(
            recipe=RECIPE,
            assignments=assignments_of(run.parent),
            ablation_name=name,
            ablation=spec.cells,
            sweep=spec.sweep,
        )
        resolved = resolve(request)
        save(resolved, ledger)
        assert {stage.name for stage in resolved.stages if not stage.name.startswith("cells/")} <= chain
        send(resolved.stages, ledger, PROFILE)
        ended = until_ended(resolved.stages, ledger, 120)
        assert {one.word for one in ended.values()} == {"done"}, [log_of(stage, ledger) for stage in resolved.stages]
        # In a process of its own, since the command turns to the cluster of this checkout.
        words = [sys.executable, "-m", "jobs", "ablate", "--table", "--run", str(run), name]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        folder = run / "ablations" / name
        table = json.loads((folder / "table.json").read_text())
        assert [row["evaluated"] for row in table] == [1] * len(spec.cells)
        assert (folder / "plot.svg").read_text().count("<circle") >= 2
    assert table[0]["means"]["accuracy_image_low"] <= table[0]["means"]["accuracy_image"]
