"""The exact error lines of the commands about a run, each once; elsewhere tests compare codes and values."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli.run import by_hand, follow
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Identity, Stage, StageRun
from jobs.engine.state import StageState
from proxygrm.core.errors import UserError
from slurm.sbatch import Resources
from support.run_folders.run_commands import asked, here, say  # noqa: F401

COMMANDS = {
    "status": "no run under ./runs; name a run folder with --run, or start with `make demo` [run.none]",
    "run-stage grm_rl": (
        "run-stage grm_rl runs inside a job; the files of slurm/templates start one with sbatch "
        "[run-stage.not-in-a-job]"
    ),
    "logs grm_rl -f --attempt 1": "--follow shows the running attempt; leave out --attempt [option.conflict]",
    "ablate --throttle 2": "--throttle has no effect without SPEC; leave it out [option.no-effect]",
}
OF_A_RUN = {
    "logs grm_rl": "grm_rl has no log yet; `proxygrm status --run runs/one` shows its state [logs.none]",
    "why grm_rll": (
        "no stage 'grm_rll' in this run; it has distill, split, proxy_sft, grm_sft, grm_rl, evaluate, transfer, "
        "benchmarks_vl_rewardbench, benchmarks_multimodal_rewardbench, benchmarks_mm_rlhf_rewardbench, report "
        "[stage.unknown]"
    ),
    "cost": (
        "no stage of this run has a DONE record, and accounting (sacct) knows none of its jobs [run.no-cost]"
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_without_a_run_says_in_one_line_what_to_do(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    answer = say(*words.split())
    assert (answer.exit_code, answer.output.splitlines()[-1]) == (2, f"proxygrm: {COMMANDS[words]}")


@pytest.mark.parametrize("words", OF_A_RUN)
def test_a_command_about_a_run_says_in_one_line_what_to_do(words: str) -> None:
    asked("one", 1000)
    answer = say(*words.split())
    assert (answer.exit_code, answer.output.splitlines()[-1]) == (2, f"proxygrm: {OF_A_RUN[words]}")


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def test_a_run_that_did_not_finish_names_its_stage() -> None:
    with pytest.raises(UserError) as caught:
        follow.ended_well([StageState("split", "failed", "no room (on n1)")])
    assert str(caught.value) == "split failed: no room (on n1); `proxygrm why split` says more"
    assert (caught.value.code, caught.value.values) == ("run.stage-failed", {"stage": "split", "word": "failed"})
    with pytest.raises(UserError) as caught:
        follow.ended_well([StageState("split", "done"), StageState("rl", "not submitted")])
    assert str(caught.value) == "not finished: rl; `proxygrm status` shows the state of each"
    assert (caught.value.code, caught.value.values) == ("run.not-finished", {"stages": ["rl"]})


def test_a_stage_sent_by_hand_in_the_wrong_shape_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setattr(by_hand, "RECORDED_WITHIN_S", 0.0)
    ledger = Ledger(Path("/nowhere/run"))
    with pytest.raises(UserError) as caught:
        by_hand.enter(Stage("distill", nothing, (), Resources(), array=4), ledger, Identity("f", {}), rank=0)
    assert str(caught.value) == "distill has 4 shards: sbatch --array=0-3"
    with pytest.raises(UserError) as caught:
        by_hand.enter(Stage("rl", nothing, (), Resources()), ledger, Identity("f", {}), rank=1)
    assert str(caught.value) == (
        "/nowhere/run/rl was not prepared within 0 s by the job's first task; its lines in this log say why. Do all "
        "nodes see the same folder? (proxygrm doctor)"
    )
