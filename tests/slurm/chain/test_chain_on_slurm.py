"""Submission, dependency, failure and resume of short stages on the real local scheduler."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest
from conftest import send, until_ended

from jobs.engine.facts import gather
from jobs.engine.plan import plan
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.submit import rendered, submit
from proxygrm.core.errors import UserError
from slurm.profile import Health, Profile, Scheduler
from slurm.sbatch import Resources
from support.refusals import refused

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
# The job cannot import this test module, so its functions travel by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

NO_PREFLIGHT = Health(preflight=False)  # of GPUs that are names only
PROFILE = Profile("test", scheduler=Scheduler(partition="gpu", signal_before_end_s=10), health=NO_PREFLIGHT)
SMALL = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)


@dataclass(frozen=True)
class Settings:
    text: str = 'it\'s 1 "row" ü\n'


def write_rows(run: StageRun) -> None:
    (run.out / "rows").mkdir(exist_ok=True)
    (run.out / "rows" / f"{run.cell}.txt").write_text(run.config.text)
    run.progress(1, 1, "written")


def join_rows(run: StageRun) -> None:
    texts = [file.read_text() for file in sorted(run.inputs["rows"].iterdir())]
    (run.out / "all.txt").write_text("".join(texts))
    with (run.out / "starts.log").open("a") as log:
        log.write(f"{time.time()}\n")


def use_gpus_on_every_node(run: StageRun) -> None:
    time.sleep(3 * run.rank)  # node 0 must wait for the others before it says done
    (run.out / f"node-{run.rank}").write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} of {run.nodes}")


def give_up(run: StageRun) -> None:
    raise UserError("the disk is full at /scratch; free some space", code="file.disk-full")


def forget_to_write(run: StageRun) -> None:
    """Ends well and makes nothing."""


def stages_of(join: Stage | None = None) -> list[Stage]:
    rows = Stage("rows", write_rows, (Artifact("rows"),), SMALL, config=Settings(), array=2)
    joined = Stage("joined", join_rows, (Artifact("all.txt"),), SMALL, needs={"rows": rows / "rows"})
    return [rows, joined]


def test_a_chain_runs_in_order_and_a_second_submit_runs_nothing(tmp_path: Path) -> None:
    ledger, stages = Ledger(tmp_path / "a run"), stages_of()
    first = send(stages, ledger, PROFILE)
    assert set(first) == {"rows", "joined"}
    states = until_ended(stages, ledger)
    assert {s.word for s in states.values()} == {"done"}, states
    assert (ledger.folder / "joined" / "all.txt").read_text() == Settings().text * 2
    assert "joined: attempt 1 of job" in (ledger.folder / "joined" / "latest.log").read_text()
    assert "1/1 written" in (ledger.folder / "rows" / "latest.1.log").read_text()

    planned = plan(stages, gather(stages, ledger))
    assert [p.action for p in planned] == ["skip", "skip"]
    assert submit(planned, PROFILE, ledger) == {}
    assert len((ledger.folder / "joined" / "starts.log").read_text().splitlines()) == 1


def test_only_what_is_missing_runs_again(tmp_path: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), stages_of()
    send(stages, ledger, PROFILE)
    until_ended(stages, ledger)
    (ledger.folder / "joined" / "all.txt").unlink()
    assert set(send(stages, ledger, PROFILE)) == {"joined"}
    assert until_ended(stages, ledger)["joined"].word == "done"


def test_a_failing_stage_stops_what_follows_and_says_why(tmp_path: Path) -> None:
    broken = Stage("broken", give_up, (Artifact("x"),), SMALL)
    after = Stage("after", write_rows, (Artifact("rows"),), SMALL, config=Settings(), needs={"x": broken / "x"})
    ledger = Ledger(tmp_path / "run")
    send([broken, after], ledger, PROFILE)
    states = until_ended([broken, after], ledger)
    assert states["broken"].word == "failed"
    assert states["broken"].detail.startswith("the disk is full at /scratch; free some space (on ")
    record = read_json(ledger.folder / "broken" / "FAILED.0.json")
    attempt = {"job": ledger.submissions()["broken"]["job_id"], "restart": 0}
    assert (record["code"], record["attempt"], record["rank"]) == ("file.disk-full", attempt, 0)
    assert states["after"].word == "cancelled"
    assert not (ledger.folder / "after" / "rows").exists()


def test_a_stage_that_makes_nothing_is_not_done(tmp_path: Path) -> None:
    idle = Stage("idle", forget_to_write, (Artifact("x"),), SMALL)
    ledger = Ledger(tmp_path / "run")
    send([idle], ledger, PROFILE)
    assert "ran to its end, but x is not usable" in until_ended([idle], ledger)["idle"].detail
    assert ledger.done(idle) is None


def test_every_node_of_a_job_runs_the_stage_with_its_gpus(tmp_path: Path) -> None:
    on = Resources(nodes=2, gpus_per_node=2, cpus_per_task=1, mem_gb=1, timeout_min=5)
    pair = Stage("pair", use_gpus_on_every_node, (Artifact("node-0"), Artifact("node-1")), on)
    ledger = Ledger(tmp_path / "run")
    send([pair], ledger, PROFILE)
    assert until_ended([pair], ledger)["pair"].word == "done"
    record = read_json(ledger.done_path(pair))
    assert len(record["nodes"]) == 2
    assert (ledger.folder / "pair" / "node-1").read_text() == "0,1 of 2"


def test_a_partition_that_does_not_exist_is_one_clear_line(tmp_path: Path) -> None:
    ledger, stages = Ledger(tmp_path / "run"), stages_of()
    planned = plan(stages, gather(stages, ledger))
    wrong = Profile("test", scheduler=Scheduler(partition="nope"))
    with refused("submit.refused", stage="rows") as caught:
        submit(planned, wrong, ledger)
    assert "scheduler.partition" in str(caught.value)
    assert ledger.submissions() == {}


def test_the_printed_script_is_the_one_that_was_sent(tmp_path: Path) -> None:
    ledger, stages = Ledger(tmp_path / "it's a run"), stages_of()
    planned = plan(stages, gather(stages, ledger))
    job_ids = submit(planned, PROFILE, ledger)
    until_ended(stages, ledger)
    for line in planned:
        script = rendered([line], PROFILE, ledger.folder, job_ids)
        (sent,) = (ledger.folder / line.stage.name / "jobs").glob("*submission.sh")
        assert script == re.sub(r"proxygrm-[0-9a-f]{24}", "proxygrm-TOKEN", sent.read_text())
