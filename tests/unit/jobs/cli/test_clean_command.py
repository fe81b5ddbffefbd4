"""`proxygrm clean` on a run of the shipped recipe."""

from __future__ import annotations

from pathlib import Path

from jobs.engine.run_folder import reuse
from jobs.engine.run_folder.records import write_json
from support.refusals import code_of
from support.run_folders.run_commands import asked, here, say  # noqa: F401


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_it_shows_asks_and_leaves_a_run_that_is_done() -> None:
    ledger, _ = asked("first", 1000, done=True)
    folder = ledger.folder
    (folder / "grm_sft" / "swift" / "checkpoint-60").mkdir(parents=True)
    (folder / "grm_rl" / "checkpoints" / "global_step_2").mkdir(parents=True)
    (folder / "grm_rl" / "rollouts").mkdir()
    before = everything(folder)
    assert code_of(say("clean", "--yes").output) == "clean.no-run"
    assert code_of(say("clean").output) == "clean.needs-yes"
    shown = say("clean", "--run", "runs/first", "--dry-run").output
    assert "grm_sft/swift/checkpoint-60" in shown
    assert "grm_rl, which is done" in shown
    assert everything(folder) == before
    answer = say("clean", "--run", "runs/first", "--yes")
    assert answer.exit_code == 0, answer.output
    gone = {"grm_sft/swift/checkpoint-60", "grm_rl/checkpoints", "grm_rl/checkpoints/global_step_2"}
    assert everything(folder) == before - gone
    assert "nothing to remove" in say("clean", "--run", "runs/first", "--yes").output
    assert "run " not in say("plan", "--run", "runs/first").output.split("GPU-h")[1].split("at most")[0]


def test_it_names_the_runs_that_use_a_stage() -> None:
    ledger, _ = asked("first", 1000, done=True)
    folder = ledger.folder.resolve()
    write_json(
        folder / reuse.USED_BY / "0.json", {"run": str(folder.parent / "second"), "stages": ["split", "distill"]}
    )
    write_json(folder.parent / "second" / "split" / "DONE.json", {"reused_from": str(folder)})
    shown = say("clean", "--run", "runs/first", "--dry-run").output
    assert f"split stays: used by {folder.parent / 'second'}" in shown
    assert "distill" not in shown, "it does not use that one any more"
