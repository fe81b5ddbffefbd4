"""Cells of an ablation on the real local scheduler: two arrays, one failing cell, and the repair of it alone."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest
from click.testing import CliRunner
from conftest import send, until_ended

from jobs.cli.main import main
from jobs.engine import sweep as ablation
from jobs.engine.facts import gather
from jobs.engine.plan import Sending, plan
from jobs.engine.recipe import PerCell, Sweep
from jobs.engine.request import Request, save
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.submit import submit
from jobs.recipes import resolve
from proxygrm.core.errors import UserError
from slurm.profile import Profile, Scheduler
from slurm.sbatch import Resources

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PROFILE = Profile("test", scheduler=Scheduler(partition="gpu", signal_before_end_s=10))
SMALL = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)


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


def judge_part(run: StageRun) -> None:
    (run.out / "parts").mkdir(exist_ok=True)
    (run.out / "parts" / f"{run.cell}").write_text(run.inputs["rl"].read_text())


def merge(run: StageRun) -> None:
    (run.out / "summary").write_text("".join(file.read_text() for file in sorted(run.inputs["parts"].iterdir())))


def chain_of(number: int) -> list[Stage]:
    rl = Stage("grm_rl", train, (Artifact("policy"),), SMALL, Cell(number))
    needs = {"rl": rl / "policy"}
    shards = Stage("evaluate_shards", judge_part, (Artifact("parts"),), SMALL, needs=needs, array=3)
    return [
        rl,
        shards,
        Stage("evaluate", merge, (Artifact("summary"),), SMALL, needs={"parts": shards / "parts"}),
    ]


def test_cells_whose_evaluation_is_an_array_wait_for_their_own_cell_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    per_cell = {name: PerCell(f"ablation_{name}") for name in ("grm_rl", "evaluate_shards", "evaluate")}
    chains = [(ablation.Cell(f"c{number}", ()), chain_of(number)) for number in range(3)]
    stages = ablation.cell_stages([], chains, Sweep(per_cell=per_cell))
    sent = send(stages, ledger, PROFILE)
    assert len({job_id.split("_")[0] for job_id in sent.values()}) == 1 + 3 + 3
    states = until_ended(stages, ledger)
    assert {name for name, state in states.items() if state.word == "done"} == {
        f"cells/c{number}/{name}" for number in (0, 2) for name in ("evaluate_shards", "evaluate")
    }
    assert (ledger.folder / "cells" / "c2" / "evaluate" / "summary").read_text() == "222"

    (ledger.folder / "repaired").touch()
    assert set(send(stages, ledger, PROFILE)) == {f"cells/c1/{name}" for name in per_cell}
    states = until_ended(stages, ledger)
    assert {state.word for state in states.values()} == {"done"}, states


def test_a_chain_and_an_ablation_of_it_are_both_known_in_one_run_folder(tmp_path: Path) -> None:
    """Held in the queue: what they would train is tested elsewhere."""
    site, run = tmp_path / "site.toml", tmp_path / "run"
    site.write_text('preset = "demo"\n[scheduler]\npartition = "gpu"\n')
    names = tuple(
        ablation.Cell(f"s{seed}", (f"grm_rl.seed={seed}",), (("grm_rl.seed", f"{seed}"),)) for seed in range(2)
    )
    chain = resolve(Request(profile=str(site)))
    of_cells = resolve(Request(profile=str(site), ablation_name="seeds", ablation=names))
    for asked in (chain, of_cells):
        save(asked, Ledger(run))
        planned = plan(asked.stages, gather(asked.stages, Ledger(run)))
        submit(planned, asked.profile, Ledger(run), sending=Sending(hold=True))

    def say(*words: str) -> str:
        answer = CliRunner().invoke(main, [*words, "--run", str(run)])
        assert answer.exit_code == 0, answer.output
        return answer.stdout

    states = {row["stage"]: row for row in json.loads(say("status", "--json"))}
    assert list(states) == [*(stage.name for stage in chain.stages), "ablation_rl", "ablation_evaluate"]
    assert {row["word"] for row in states.values()} <= {"pending", "waiting"}
    assert say("why").splitlines()[1].startswith("distill waits: it is held (JobHeldUser)")
    (row,) = json.loads(say("ablate", "--table", "--json"))
    assert (row["cells"], row["evaluated"]) == (2, 0)
    assert {line.action for line in plan(chain.stages, gather(chain.stages, Ledger(run)))} == {"wait"}
    assert f"cancelled {len(chain.stages) + 2} jobs" in say("cancel"), "and the two arrays of the ablation"
