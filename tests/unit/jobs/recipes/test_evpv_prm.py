"""evpv-prm: which training starts from which, what the settings leave out, and the released hyper-parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_tools.sources.demo_solutions import write_demo_solutions
from jobs.engine.stage import Output, Stage
from jobs.recipes import evpv_prm as recipe
from jobs.recipes.drawn_pairs import MODEL
from proxygrm.core.settings import with_assignments
from proxygrm.report.contents import Report
from proxygrm.report.gather import gather
from proxygrm.report.tables.results import result_rows
from proxygrm.sft.arguments import by_name, swift_arguments
from proxygrm.sft.settings import SftSettings
from support.refusals import refused


def chain(*assignments: str, preset: str = "demo") -> dict[str, Stage]:
    settings = with_assignments(recipe.RECIPE.settings(preset), assignments)
    return {stage.name: stage for stage in recipe.RECIPE.stages(settings)}


def source(stage: Stage, need: str) -> str:
    """STAGE/PATH of what it needs from another stage; "" for what is given."""
    needed = stage.needs[need]
    return f"{needed.stage.name}/{needed.path}" if isinstance(needed, Output) else ""


@pytest.mark.parametrize("preset", ["paper", "demo", "quick"])
def test_each_training_starts_from_the_one_before(preset: str) -> None:
    """In the released scripts the DPO starts from the base, and its result is used by nothing."""
    stages = chain(preset=preset)
    first = "extractor_sft_merge/model" if preset == "paper" else "extractor_sft/model"
    judge = "judge_sft_merge/model" if preset == "paper" else "judge_sft/model"
    assert source(stages["extractor_sft"], "start") == ""
    assert source(stages["extractor_dpo"], "start") == source(stages["extractor_dpo_merge"], "start") == first
    assert source(stages["judge_sft"], "start") == "extractor_dpo_merge/model"
    scored = stages["scored_candidates"]
    assert [source(scored, role) for role in ("extractor", "judge")] == ["extractor_dpo_merge/model", judge]
    if preset == "paper":
        assert source(scored, "auditor") == judge
    else:
        assert (scored.needs.get("auditor"), scored.config.auditor) == (None, "rule-based")
    assert source(stages["process_benchmark"], "judge") == judge
    assert stages["judge_sft"].config.step_judge


def test_without_preferences_the_judge_starts_from_vision_sft() -> None:
    stages = chain("preference=none")
    assert "extractor_dpo" not in stages
    assert source(stages["judge_sft"], "start") == "extractor_sft/model"
    assert "contradicted_images" not in stages
    assert "contradicted_images" in chain("preference=none", "training_sets.auditor=judge"), "audits need them"


@pytest.mark.parametrize(("auditor", "who"), [
    ("judge", "judge_sft/model"), ("separate", "auditor_sft/model"), ("none", "judge_sft/model"),
])  # fmt: skip
def test_who_learns_to_audit_is_a_setting(auditor: str, who: str) -> None:
    stages = chain(f"training_sets.auditor={auditor}", "scored_candidates.auditor=")
    assert source(stages["scored_candidates"], "auditor") == who
    assert ("auditor_sft" in stages) == (auditor == "separate")
    assert ("audited_claims" in stages) == (auditor != "none")


def test_measured_labels_need_no_judgements_of_a_teacher() -> None:
    measured = "training_sets.labels=measured"
    assert "teacher_verdicts" not in chain(measured)
    assert "teacher_verdicts" in chain(measured, "training_sets.auditor=judge"), "the audits' claims come from them"


def test_a_benchmark_that_is_not_given_is_left_out() -> None:
    stages = chain("visualprocessbench=")
    assert "process_benchmark" not in stages
    assert set(stages["report"].needs) == {"chosen_candidates", "training_sets"}


def test_labelled_solutions_are_scored_by_the_models_that_score_the_candidates() -> None:
    stages = chain("labelled_steps.questions=7")
    scored, candidates = stages["scored_steps"], stages["scored_candidates"]
    assert scored.config == candidates.config
    assert [source(scored, role) for role in ("judge", "extractor")] == [
        source(candidates, role) for role in ("judge", "extractor")
    ]
    assert source(scored, "solutions") == "labelled_steps/labelled.jsonl"
    assert source(scored, "images") == "labelled_solutions/solutions"
    assert stages["labelled_steps"].config.questions == 7
    assert stages["labelled_solutions"].needs["release"] != stages["prm_data"].needs["release"]
    assert [stages[name].config.against for name in ("calibration", "step_calibration")] == ["answer", "steps"]
    assert not {name for name in chain("labelled_release=") if name.startswith("labelled") or "step_" in name}


def test_rows_set_aside_are_the_evaluation_of_their_training() -> None:
    stages = chain("training_sets.validation=0.1", "training_sets.auditor=separate")
    names = {"extractor_sft": "vision_sft", "extractor_dpo": "vision_dpo", "judge_sft": "step_judge"}
    for stage, name in (names | {"auditor_sft": "audit"}).items():
        assert source(stages[stage], "data") == f"training_sets/{name}.jsonl"
        assert source(stages[stage], "validation") == f"training_sets/{name}_val.jsonl"


def test_questions_beside_the_runs_do_not_make_finished_stages_others(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q.jsonl").write_text('{"question": "q", "image": "1.png", "answer": "3"}\n')

    def fingerprints() -> list[str]:
        stages = chain("questions=q.jsonl", "intervenes=true")
        return [stages[name].fingerprint() for name in ("sampled_candidates", "scored_candidates", "perception")]

    before = fingerprints()
    Path("runs").mkdir()
    Path("more.txt").write_text("x")
    assert fingerprints() == before


def test_an_unknown_auditor_or_preference_is_refused() -> None:
    for setting in ("training_sets.auditor=nobody", "preference=ppo"):
        with refused("settings.wrong-type"):
            chain(setting)


SHARED = {
    "tuner_type": "lora", "lora_rank": "8", "lora_alpha": "32.0", "target_modules": "all-linear", "freeze_vit": "true",
    "learning_rate": "0.0001", "num_train_epochs": "1", "torch_dtype": "bfloat16", "max_length": "8192",
    "per_device_train_batch_size": "1", "save_steps": "200", "save_total_limit": "5", "logging_steps": "10",
}  # fmt: skip
PACKED = {"packing": "true", "padding_free": "true", "warmup_ratio": "0.05", "gradient_accumulation_steps": "1"}


@pytest.mark.parametrize(("stage", "own"), [
    ("extractor_sft", {"freeze_aligner": "true", **PACKED}),
    ("extractor_dpo", {
        "rlhf_type": "dpo", "freeze_aligner": "false", "gradient_accumulation_steps": "2", "packing": None,
        "warmup_ratio": "0.0",
    }),
    ("judge_sft", {"freeze_aligner": "true", **PACKED}),
])  # fmt: skip
def test_the_paper_s_trainings_have_the_released_hyper_parameters(stage: str, own: dict[str, str | None]) -> None:
    settings: SftSettings = chain(preset="paper")[stage].config
    settings.check_installed()
    values = by_name(swift_arguments(settings, Path("m"), Path("d"), Path("o")))
    assert "--train_type" not in values, "its name in ms-swift 3"
    for name, value in (SHARED | own).items():
        assert values.get(f"--{name}") == (None if value is None else [value]), name
    assert settings.command == ("rlhf" if stage == "extractor_dpo" else "sft")


def test_the_drawn_inputs_are_what_the_presets_name(tmp_path: Path) -> None:
    write_demo_solutions(tmp_path, images=6, solutions=4, questions=4, seed=0)
    config, folder = recipe.demo(), recipe.INPUTS.folder
    assert Path(config.start) == folder / MODEL
    for path in (config.release, config.labelled_release, config.questions, config.visualprocessbench):
        assert (tmp_path / Path(path).relative_to(folder)).exists()


def test_one_table_has_the_gate_s_effect_by_aggregate_and_the_step_judge(tmp_path: Path) -> None:
    figures = {"gated": 0.9, "gated_low": 0.8, "gated_high": 0.95, "judged": 0.8, "gate": -0.1, "questions": 120}
    for file, summary in (
        ("chosen_candidates", {"minimum": figures, "mean": figures}),
        ("process_benchmark", {"judge": {"macro_f1": 0.7}}),
    ):
        (tmp_path / file).mkdir()
        (tmp_path / file / "summary.json").write_text(json.dumps(summary))
    report = recipe.RECIPE.report
    assert isinstance(report, Report)
    assert report.results
    rows = result_rows(report.in_order(gather(tmp_path, report).summary), report.results)
    by_name = {name: cells for name, *cells in rows}
    assert by_name["mean"][:4] == ["120", "90.0 % (80.0–95.0)", "80.0 %", "-10.0 %"]
    assert by_name["step judge"][-1] == "70.0 %"


def test_its_own_judge_is_asked_with_the_steps_that_it_learns_from() -> None:
    with refused("settings.contradiction", name="scored_candidates.history", value=8):
        chain("scored_candidates.history=8")
    both = chain("scored_candidates.history=8", "training_sets.history=8")
    assert both["scored_candidates"].config.history == both["training_sets"].config.history == 8
    assert chain("scored_candidates.history=8", "scored_candidates.judge=rule-based"), "which learns from no set"
