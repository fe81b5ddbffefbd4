"""Cells of an ablation on the real local scheduler: two arrays, one failing cell, and the repair of it alone."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest

from jobs import state
from jobs.ledger import Ledger
from jobs.plan import plan
from jobs.stage import Artifact, Resources, Stage, StageRun
from jobs.submit import submit
from proxygrm.errors import UserError
from slurm.profile import Profile, Scheduler

pytestmark = pytest.mark.cluster
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PROFILE = Profile("test", scheduler=Scheduler(partition="gpu", signal_before_end_s=10))
SMALL = Resources(cpus_per_node=1, memory_gb=1, walltime_min=5)


@dataclass(frozen=True)
class Cell:
    number: int


def train(run: StageRun) -> None:
    with (run.out / "starts.log").open("a") as log:
        log.write("x\n")
    if run.config.number == 1 and not (run.run_dir / "repaired").exists():
        raise UserError("this cell is broken")
    (run.out / "policy").write_text(str(run.config.number))


def judge(run: StageRun) -> None:
    (run.out / "summary").write_text(run.inputs["rl"].read_text() * 2)


def cells(number: int) -> list[Stage]:
    found = []
    for i in range(number):
        made = (Artifact("policy"),)
        found.append(Stage(f"cells/c{i}/grm_rl", train, made, SMALL, Cell(i), batch="ablation_rl", throttle=2))
    judged = [
        Stage(
            f"cells/c{i}/evaluate", judge, (Artifact("summary"),), SMALL, needs={"rl": stage / "policy"}, batch="eval"
        )
        for i, stage in enumerate(found)
    ]
    return [*found, *judged]


@pytest.fixture(autouse=True)
def on_the_local_cluster(local_cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in local_cluster.env.items():
        monkeypatch.setenv(key, value)


def send(stages: list[Stage], ledger: Ledger) -> dict[str, str]:
    ledger.create()
    return submit(plan(stages, state.facts(stages, ledger)), PROFILE, ledger)


def wait(stages: list[Stage], ledger: Ledger) -> dict[str, state.StageState]:
    deadline = time.time() + 90
    while time.time() < deadline:
        states = {s.stage: s for s in state.status(stages, ledger)}
        if not any(s.live for s in states.values()):
            return states
        time.sleep(0.5)
    raise AssertionError(f"still going: {states}")


def test_a_failed_cell_costs_its_own_evaluation_alone_and_is_repaired_alone(tmp_path: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), cells(3)
    first = send(stages, ledger)
    assert len({job_id.split("_")[0] for job_id in first.values()}) == 2
    states = wait(stages, ledger)
    assert states["ablation_rl"].word == "failed"
    assert "cells/c1/grm_rl: this cell is broken" in states["ablation_rl"].detail
    assert (ledger.folder / "cells" / "c2" / "evaluate" / "summary").read_text() == "22"
    assert not (ledger.folder / "cells" / "c1" / "evaluate" / "summary").exists()

    (ledger.folder / "repaired").touch()
    assert set(send(stages, ledger)) == {"cells/c1/grm_rl", "cells/c1/evaluate"}
    states = wait(stages, ledger)
    assert {s.word for s in states.values()} == {"done"}, states
    starts = [(ledger.folder / "cells" / f"c{i}" / "grm_rl" / "starts.log").read_text().count("x") for i in range(3)]
    assert starts == [1, 2, 1]
