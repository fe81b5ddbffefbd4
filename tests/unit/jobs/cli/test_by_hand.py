"""What a job that a person sent does before its stage runs, where no scheduler answers."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from jobs.cli.run import by_hand
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Identity, Stage, StageRun
from slurm.sbatch import Resources
from support.refusals import refused


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


STAGE = Stage("rl", nothing, (), Resources(nodes=2))
IDENTITY = Identity("f", {})


@pytest.fixture(autouse=True)
def in_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)


def test_other_tasks_start_only_when_the_first_has_moved_older_work_aside(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    ledger.prepare(STAGE, "older")
    (ledger.folder / "rl" / "checkpoint").write_text("of another configuration")
    seen: list[bool] = []

    def second() -> None:
        by_hand.enter(STAGE, ledger, IDENTITY, rank=1)
        seen.append((ledger.folder / "rl" / "checkpoint").exists())

    task = threading.Thread(target=second)
    task.start()
    task.join(timeout=1)
    assert task.is_alive()
    by_hand.enter(STAGE, ledger, IDENTITY, rank=0)
    task.join(timeout=120)
    assert seen == [False]


def test_the_others_give_up_when_the_first_never_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "RECORDED_WITHIN_S", 0.1)
    with refused("run-stage.not-prepared", path=tmp_path / "run" / "rl"):
        by_hand.enter(STAGE, Ledger(tmp_path / "run"), IDENTITY, rank=1)


def test_a_controller_that_does_not_answer_costs_the_log_not_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(tmp_path / "run")
    by_hand.enter(STAGE, ledger, IDENTITY, rank=0)
    assert ledger.submissions()["rl"]["job_id"] == "12"
    assert "`proxygrm logs` will not find this log: no SLURM here" in capsys.readouterr().out


def test_shards_that_are_not_sent_as_an_array_are_refused(tmp_path: Path) -> None:
    distill = Stage("distill", nothing, (), Resources(), array=4)
    with refused("run-stage.not-an-array", stage="distill", count=4):
        by_hand.enter(distill, Ledger(tmp_path / "run"), IDENTITY, rank=0)
