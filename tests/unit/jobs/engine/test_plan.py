"""Planning, the run folder and the rendered submission, without a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jobs.engine import stage as stage_module
from jobs.engine.check import missing_inputs, other_jobs, runs_inside_inputs
from jobs.engine.plan import Facts, Queued, Sending, files, gpu_hours, plan, within_limits
from jobs.engine.run_folder import snapshot
from jobs.engine.run_folder.code_version import git_revision, masked_diff
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.stage import Artifact, Given, Stage, StageRun, closure, identities
from jobs.engine.submit import rendered
from jobs.stages.checks import NamedImages
from proxygrm.core.errors import UserError
from slurm.profile import Node, Profile, Scheduler
from slurm.sbatch import Resources, sbatch_parameters
from support.refusals import refused


@dataclass(frozen=True)
class Settings:
    size: int = 1


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def three_stages(data: Path, size: int = 1) -> list[Stage]:
    first = Stage(
        "first",
        nothing,
        (Artifact("rows.txt"),),
        Resources(),
        config=Settings(size),
        needs={"data": Given(str(data))},
    )
    second = Stage("second", nothing, (Artifact("m"),), Resources(), needs={"rows": first / "rows.txt"}, array=3)
    third = Stage("third", nothing, (Artifact("r"),), Resources(), needs={"m": second / "m", "d": Given(str(data))})
    return [first, second, third]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data with spaces"
    folder.mkdir()
    (folder / "rows").write_text("ü\n")
    return folder


def finish(ledger: Ledger, stage: Stage) -> None:
    for cell in range(stage.array):
        ledger.write_done(stage, Done(stage.name, stage.fingerprint(), cell, 1.0, 2.0, "7", ["n1"], 10))
    for artifact in stage.makes:
        (ledger.folder / stage.name / artifact.path).write_text("made")


def facts_of(ledger: Ledger, stages: list[Stage]) -> dict[str, Facts]:
    return {s.name: Facts(ledger.unfinished(s, s.fingerprint()), s.identity()) for s in stages}


def actions(ledger: Ledger, stages: list[Stage]) -> list[str]:
    return [p.action for p in plan(stages, facts_of(ledger, stages))]


def test_a_fresh_run_runs_everything_in_the_order_of_its_needs(tmp_path: Path, data: Path) -> None:
    stages = three_stages(data)
    planned = plan(stages, facts_of(Ledger(tmp_path / "run"), stages))
    assert [p.action for p in planned] == ["run"] * 3
    assert [p.after for p in planned] == [(), ("first",), ("second",)]


def test_done_stages_are_skipped_and_only_the_missing_part_runs(tmp_path: Path, data: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), three_stages(data)
    finish(ledger, stages[0])
    assert actions(ledger, stages) == ["skip", "run", "run"]
    finish(ledger, stages[1])
    finish(ledger, stages[2])
    assert actions(ledger, stages) == ["skip", "skip", "skip"]


def test_an_artifact_that_vanished_makes_its_stage_due_again(tmp_path: Path, data: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), three_stages(data)
    for stage in stages:
        finish(ledger, stage)
    (ledger.folder / "second" / "m").unlink()
    planned = plan(stages, facts_of(ledger, stages))
    assert [p.action for p in planned] == ["skip", "run", "run"]
    assert "m is not usable" in planned[1].because
    assert planned[2].because == "second will be rebuilt"


def test_one_array_element_missing_is_enough(tmp_path: Path, data: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), three_stages(data)
    for stage in stages:
        finish(ledger, stage)
    ledger.done_path(stages[1], 2).unlink()
    assert "1 of 3 array elements" in (ledger.unfinished(stages[1], stages[1].fingerprint()) or "")


def test_a_changed_configuration_makes_the_stage_and_all_after_it_due(tmp_path: Path, data: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    for stage in three_stages(data):
        finish(ledger, stage)
    assert actions(ledger, three_stages(data, size=2)) == ["run", "run", "run"]


def test_changed_input_data_changes_the_fingerprint_and_a_copy_does_not(tmp_path: Path, data: Path) -> None:
    before = three_stages(data)[0].fingerprint()
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "rows").write_bytes((data / "rows").read_bytes())
    assert three_stages(copy)[0].fingerprint() == before
    (copy / "more").write_text("x")
    assert three_stages(copy)[0].fingerprint() != before


def test_resources_do_not_change_the_fingerprint(data: Path) -> None:
    stage = three_stages(data)[0]
    assert replace(stage, on=Resources(nodes=64)).fingerprint() == stage.fingerprint()


def test_a_queued_stage_is_waited_for_and_another_configuration_of_it_is_refused(data: Path, tmp_path: Path) -> None:
    stages = three_stages(data)
    facts = facts_of(Ledger(tmp_path / "run"), stages)
    queued = Queued("12", "PENDING", stages[0].fingerprint())
    planned = plan(stages, {**facts, "first": replace(facts["first"], queued=queued)})
    assert (planned[0].action, planned[0].job_id) == ("wait", "12")
    assert planned[1].after == ("first",)
    other = replace(facts["first"], queued=replace(queued, fingerprint="other"))
    with refused("submit.other-configuration-queued", stage="first", job="12"):
        plan(stages, {**facts, "first": other})


def test_redo_runs_a_done_stage_and_what_follows(tmp_path: Path, data: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), three_stages(data)
    for stage in stages:
        finish(ledger, stage)
    planned = plan(stages, facts_of(ledger, stages), frozenset({"second"}))
    assert [p.action for p in planned] == ["skip", "run", "run"]


def test_closure_takes_what_a_stage_needs_and_nothing_else(data: Path) -> None:
    assert [s.name for s in closure(three_stages(data), ["second"])] == ["first", "second"]
    with refused("stage.unknown", name="secnd", known=["first", "second", "third"]):
        closure(three_stages(data), ["secnd"])


def test_an_output_that_no_stage_makes_cannot_be_needed(data: Path) -> None:
    with refused("stage.unknown-output", stage="first", name="wrong", known=["rows.txt"]):
        three_stages(data)[0] / "wrong"


def test_missing_inputs_are_all_named_at_once(tmp_path: Path) -> None:
    lines = [found.text for found in missing_inputs(three_stages(tmp_path / "nowhere"))]
    assert len(lines) == 1
    assert "nowhere does not exist" in lines[0]


def test_work_of_another_configuration_is_moved_aside_not_resumed_and_not_lost(tmp_path: Path, data: Path) -> None:
    ledger, stage = Ledger(tmp_path / "run"), three_stages(data)[0]
    ledger.prepare(stage, "aaa")
    (ledger.folder / "first" / "half").write_text("from aaa")
    ledger.prepare(stage, "aaa")
    assert (ledger.folder / "first" / "half").exists()
    ledger.prepare(stage, "bbb")
    assert not (ledger.folder / "first" / "half").exists()
    assert (ledger.folder / "first.aaa" / "half").read_text() == "from aaa"


def test_a_torn_record_is_an_error_that_names_the_file(tmp_path: Path, data: Path) -> None:
    ledger, stage = Ledger(tmp_path / "run"), three_stages(data)[0]
    ledger.create()
    (ledger.folder / "first").mkdir()
    ledger.done_path(stage).write_text('{"stage": "fi')
    with refused("run.unreadable-record", path=ledger.done_path(stage)):
        ledger.done(stage)


def test_two_submitters_of_one_run_do_not_meet(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    with (
        ledger.lock("submit"),
        pytest.raises(UserError, match="another submit is working"),
        ledger.lock("submit"),
    ):
        pass


def test_a_run_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with refused("run.cannot-write", path=tmp_path / "file" / "run"):
        Ledger(tmp_path / "file" / "run").create()


PROFILE = Profile(
    "site",
    scheduler=Scheduler(partition="gpu", account="lab", max_nodes=4, sbatch={"licenses": "a:1"}),
    node=Node(gpus=8, gpu_type="h100"),
)


def test_a_submission_carries_the_profile_and_the_dependency() -> None:
    stage = Stage("rl", nothing, (), Resources(nodes=2, gpus_per_node=8))
    asked = sbatch_parameters(stage, PROFILE, "afterok:11:12")
    assert asked["dependency"] == "afterok:11:12"
    assert asked["gpus_per_node"] == "h100:8"
    assert asked["account"] == "lab"
    assert asked["additional_parameters"] == {
        "licenses": "a:1",
        "kill-on-invalid-dep": "yes",
        "requeue": True,
        "signal": "USR2@120",
    }


def test_what_the_site_forbids_is_said_before_the_queue_says_it() -> None:
    stage = Stage("rl", nothing, (), Resources(nodes=5, gpus_per_node=8))
    assert within_limits(stage, PROFILE) == "rl asks for 5 nodes, profile site allows 4 (scheduler.max_nodes)"
    assert within_limits(replace(stage, on=Resources(nodes=4, gpus_per_node=8)), PROFILE) is None


def test_a_done_record_is_whole_json(tmp_path: Path, data: Path) -> None:
    ledger, stage = Ledger(tmp_path / "run"), three_stages(data)[0]
    finish(ledger, stage)
    assert json.loads(ledger.done_path(stage).read_text())["wall_s"] == 1.0
    assert not list((ledger.folder / "first").glob(".DONE*"))


def test_a_hold_and_a_foreign_job_concern_the_first_jobs_of_a_submission_only(data: Path, tmp_path: Path) -> None:
    stages = three_stages(data)
    planned = plan(stages, facts_of(Ledger(tmp_path / "run"), stages))
    sending = Sending(hold=True, after=("77", "78_1"))
    scripts = [rendered([line], PROFILE, tmp_path / "run", {"first": "5"}, sending) for line in planned]
    assert ["#SBATCH --hold\n" in script for script in scripts] == [True, False, False]
    wanted = ["afterok:77:78_1", "afterok:5", "'afterok:<second>'"]
    assert [f"#SBATCH --dependency={words}\n" in s for words, s in zip(wanted, scripts, strict=True)] == [True] * 3
    assert "--hold" not in rendered([planned[0]], PROFILE, tmp_path / "run", {})


@pytest.mark.parametrize("word", ["", "12; rm -rf /", "afterok:12", "-1", "1 2", "12_"])
def test_what_is_no_job_id_is_refused_before_slurm_sees_it(word: str) -> None:
    with refused("submit.bad-job-id", job=word):
        other_jobs([word])


def test_every_file_of_a_submit_is_named_and_nothing_for_what_is_done(tmp_path: Path, data: Path) -> None:
    ledger, stages = Ledger(tmp_path / "a run"), three_stages(data)
    finish(ledger, stages[0])
    run = ledger.folder
    code = snapshot.planned(run)
    paths = [path for path, _ in files(plan(stages, facts_of(ledger, stages)), run, run / "ablations" / "mine", code)]
    assert f"{code}/" in paths
    assert paths[0] == f"{run}/ablations/mine/run.json"
    assert f"{run}/second/jobs/JOB_ELEMENT_submitted.pkl" in paths
    assert f"{run}/third/jobs/JOB_submitted.pkl" in paths
    assert not any("/first/" in path for path in paths)
    for stage in stages[1:]:
        finish(ledger, stage)
    assert files(plan(stages, facts_of(ledger, stages)), run, run, code) == []


def test_the_ceiling_counts_every_element_and_says_what_requeues_add(data: Path) -> None:
    on = Resources(nodes=2, gpus_per_node=4, timeout_min=30)
    stage = Stage("rl", nothing, (), on, array=3, max_requeues=5)
    assert gpu_hours([stage]) == 12.0
    assert gpu_hours([stage], requeues=True) == 72.0
    assert gpu_hours([Stage("split", nothing, (), Resources())]) == 0


def test_a_stage_that_would_be_told_to_stop_as_it_starts_is_refused() -> None:
    short = Stage("rl", nothing, (), Resources(timeout_min=2))
    assert "at once" in (within_limits(short, PROFILE) or "")
    assert within_limits(replace(short, on=Resources(timeout_min=3)), PROFILE) is None


def test_identities_of_a_chain_are_those_of_its_stages(data: Path) -> None:
    stages = three_stages(data)
    assert identities(stages) == {stage.name: stage.identity() for stage in stages}


def test_an_input_that_holds_the_run_folder_is_refused(tmp_path: Path) -> None:
    """It would be another one with every file of the run, and so would the stage."""
    run, beside = tmp_path / "data" / "runs" / "one", tmp_path / "data" / "pairs"
    reads = [
        Stage("mix", nothing, (), Resources(), needs={"root": Given(str(path))}) for path in (run.parents[1], beside)
    ]
    (problem,) = runs_inside_inputs(reads, run)
    assert (problem.code, "mix needs root at" in problem.text) == ("submit.run-inside-input", True)
    beside.mkdir(parents=True)
    images = replace(reads[0], needs={"images": NamedImages(str(tmp_path), rows=str(beside / "rows.jsonl"))})
    assert runs_inside_inputs([images], run) == []


def test_a_file_that_another_process_removes_meanwhile_is_no_part_of_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").write_text("rows")
    alone = Given(str(tmp_path)).identity()
    (tmp_path / "scratch").touch()
    look = stage_module._is_file

    def looked_at_too_early(path: Path) -> bool:
        was_there = look(path)
        if path.name == "scratch":
            path.unlink()
        return was_there

    monkeypatch.setattr(stage_module, "_is_file", looked_at_too_early)
    stage_module._identity.cache_clear()
    assert Given(str(tmp_path)).identity() == alone
    (tmp_path / "parts" / "deeper").mkdir(parents=True)
    scandir = os.scandir

    def gone(folder: str | Path | int) -> object:
        if not isinstance(folder, int) and Path(folder).name == "parts":  # a number is rmtree's own
            shutil.rmtree(folder, ignore_errors=True)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", gone)
    stage_module._identity.cache_clear()
    assert Given(str(tmp_path)).identity() == alone


def test_the_revision_is_that_of_the_code_whatever_git_s_variables_and_the_folders_around_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("code", "other"):
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True)
        (tmp_path / name / "file").write_text(name)
        identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
        for words in (["add", "file"], ["commit", "-qm", name]):
            subprocess.run(["git", "-C", str(tmp_path / name), *identity, *words], check=True)
    code = git_revision(tmp_path / "code")
    assert code
    assert code != git_revision(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "nowhere"))
    assert git_revision(tmp_path / "code") == code
    assert masked_diff(tmp_path / "code") == ("", 0)
    (tmp_path / "code" / "installed").mkdir()
    assert git_revision(tmp_path / "code" / "installed") is None


def test_a_run_keeps_the_code_s_uncommitted_changes_but_no_secret_in_them(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    assert masked_diff(tmp_path / "nowhere") == ("", 0)
    git("add", "code.py")
    git("commit", "-qm", "first")
    assert masked_diff(tmp_path) == ("", 0)
    (tmp_path / "code.py").write_text("a = 2\nkey = 'sk-abcdefghijklmnop1234'\n")
    found, left_out = masked_diff(tmp_path)
    assert left_out == 1
    assert "+a = 2\n" in found
    assert "sk-abc" not in found
    assert "looks like a secret" in found
    assert (git_revision(tmp_path) or "").endswith("-dirty")
