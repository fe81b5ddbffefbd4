"""Cells of an ablation on the real local scheduler: two arrays, one failing cell, and the repair of it alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest
from conftest import send, until_ended

from jobs.ledger import Ledger
from jobs.stage import Artifact, Resources, Stage, StageRun
from proxygrm.errors import UserError
from slurm.profile import Profile, Scheduler

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
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


def test_a_failed_cell_costs_its_own_evaluation_alone_and_is_repaired_alone(tmp_path: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), cells(3)
    first = send(stages, ledger, PROFILE)
    assert len({job_id.split("_")[0] for job_id in first.values()}) == 2
    states = until_ended(stages, ledger)
    assert states["ablation_rl"].word == "failed"
    assert "cells/c1/grm_rl: this cell is broken" in states["ablation_rl"].detail
    assert (ledger.folder / "cells" / "c2" / "evaluate" / "summary").read_text() == "22"
    assert not (ledger.folder / "cells" / "c1" / "evaluate" / "summary").exists()

    (ledger.folder / "repaired").touch()
    assert set(send(stages, ledger, PROFILE)) == {"cells/c1/grm_rl", "cells/c1/evaluate"}
    states = until_ended(stages, ledger)
    assert {s.word for s in states.values()} == {"done"}, states
    starts = [(ledger.folder / "cells" / f"c{i}" / "grm_rl" / "starts.log").read_text().count("x") for i in range(3)]
    assert starts == [1, 2, 1]
