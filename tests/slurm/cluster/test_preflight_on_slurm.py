"""The preflight on the real local scheduler: a node that fails its check is left out and the job goes on elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
from conftest import log_of, send, until_ended

from jobs.engine import state
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json
from jobs.engine.stage import Artifact, Stage, StageRun
from slurm.health.preflight import bad_nodes
from slurm.profile import Health, Node, Profile, Scheduler
from slurm.sbatch import Resources

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ON = Resources(gpus_per_node=2, cpus_per_task=1, mem_gb=1, timeout_min=5)


def profile(**health: object) -> Profile:
    settings = Health(slow_factor=50.0, timeout_s=240.0, min_shm_gb=0.01, **health)  # type: ignore[arg-type]
    return Profile("test", scheduler=Scheduler(partition="gpu"), node=Node(device="cpu"), health=settings)


def say_where(run: StageRun) -> None:
    with (run.out / "nodes").open("a") as file:
        file.write(os.environ["SLURMD_NODENAME"] + "\n")


def after_its_run(stage: Stage, ledger: Ledger, asked: Profile) -> state.StageState:
    # Not hurried with `scontrol update starttime=now`: a node may still take it for the job it has just ended.
    send([stage], ledger, asked)
    return until_ended([stage], ledger, seconds=180)[stage.name]


def test_a_node_that_fails_the_site_s_check_is_excluded_and_the_job_runs_elsewhere(tmp_path: Path) -> None:
    """The check fails on whatever node comes first, and on that node only."""
    claimed = tmp_path / "broken node"
    check = (
        f'(set -C; echo "$SLURMD_NODENAME" > "{claimed}") 2> /dev/null; '
        f'if [ "$(cat "{claimed}")" = "$SLURMD_NODENAME" ]; then echo "disk sdb is \'read only\'"; exit 3; fi'
    )
    ledger, stage = Ledger(tmp_path / "a run"), Stage("work", say_where, (Artifact("nodes"),), ON)
    found = after_its_run(stage, ledger, profile(command=check))
    assert found.word == "done", (found, log_of(stage, ledger))
    broken = claimed.read_text().strip()
    assert (ledger.folder / "work" / "nodes").read_text().split() != [broken]
    (row,) = bad_nodes.read(ledger.folder)
    assert (row["node"], row["check"], row["stage"], row["restart"]) == (broken, "site check", "work", 0)
    assert row["reason"] == "the site's check failed: disk sdb is 'read only'"
    assert f"preflight: node {broken}: the site's check failed" in log_of(stage, ledger)
    record = read_json(ledger.done_path(stage))
    assert record["attempts"] == 2
    assert record["job_id"] == row["job"]


def test_a_job_that_meets_bad_nodes_only_stops_after_the_allowed_requeues_and_names_them(tmp_path: Path) -> None:
    ledger, stage = Ledger(tmp_path / "run"), Stage("work", say_where, (Artifact("nodes"),), ON)
    found = after_its_run(stage, ledger, profile(command="echo always; false", max_requeues=1))
    assert found.word == "failed"
    assert "the site's check failed: always; requeued 1 times already (health.max_requeues = 1)" in found.detail
    rows = bad_nodes.read(ledger.folder)
    assert [row["restart"] for row in rows] == [0, 1]
    assert rows[0]["node"] != rows[1]["node"], "the first bad node must not have been used again"


@pytest.mark.heavy
def test_four_nodes_are_measured_and_a_bad_one_of_them_costs_no_other(tmp_path: Path) -> None:
    on = Resources(nodes=3, gpus_per_node=2, cpus_per_task=1, mem_gb=1, timeout_min=5)
    ledger, stage = Ledger(tmp_path / "run"), Stage("work", say_where, (Artifact("nodes"),), on)
    found = after_its_run(stage, ledger, profile(command='[ "$SLURMD_NODENAME" != a100-2 ]'))
    assert found.word == "done", (found, log_of(stage, ledger))
    nodes = (ledger.folder / "work" / "nodes").read_text().split()
    assert sorted(nodes) == ["a100-1", "h100-1", "h100-2"]
    bad = {(row["node"], row["restart"]) for row in bad_nodes.read(ledger.folder)}  # a row for each failed check
    assert bad == {("a100-2", 0)}, "found in the first attempt, and not used again"
    (rendezvous,) = [f for f in (ledger.folder / "work" / "preflight").iterdir() if f.name.endswith("-1")]
    rows = [json.loads((rendezvous / f"health-{rank}").read_text()) for rank in range(3)]
    assert all(list(row["links_s"].values()).count(None) == 0 and len(row["links_s"]) == 2 for row in rows), rows
    assert all(abs(row["clock"]["seconds"]) < 0.5 and row["gemm_s"] > 0 and row["gpus"] == 2 for row in rows), rows


@pytest.mark.heavy
def test_an_interface_that_no_node_has_ends_the_job_with_the_remedy_and_no_requeue(tmp_path: Path) -> None:
    on = Resources(nodes=2, gpus_per_node=2, cpus_per_task=1, mem_gb=1, timeout_min=5)
    ledger, stage = Ledger(tmp_path / "run"), Stage("work", say_where, (Artifact("nodes"),), on)
    asked = profile()
    asked = Profile("t", scheduler=asked.scheduler, node=Node(device="cpu", interface="ib7"), health=asked.health)
    found = after_its_run(stage, ledger, asked)
    assert found.word == "failed"
    assert "no network interface 'ib7'" in found.detail
    assert "node.interface" in found.detail
    assert bad_nodes.read(ledger.folder) == []


def test_what_an_ended_job_left_on_the_node_is_ended_and_named(tmp_path: Path, local_cluster) -> None:  # type: ignore[no-untyped-def]
    """A daemon that slipped away from its job: a second fork in a session of its own, so SLURM lost sight of it."""
    script = "(setsid env PROXYGRM_STAGE=grm_rl sleep 1234 > /dev/null 2>&1 < /dev/null & echo left $!) & wait; sleep 2"
    before = local_cluster.submit(script, "--nodelist=h100-1", "--nodes=1")
    local_cluster.wait(before, "COMPLETED")
    left = int(local_cluster.output(before).split()[-1])
    assert Path(f"/proc/{left}").exists(), "the test's own premise: SLURM did not end it"
    asked = profile(end_stale=True)
    asked = replace(asked, scheduler=Scheduler(partition="gpu", sbatch={"nodelist": "h100-1"}))
    ledger, stage = Ledger(tmp_path / "run"), Stage("work", say_where, (Artifact("nodes"),), ON)
    try:
        found = after_its_run(stage, ledger, asked)
        assert found.word == "done", (found, log_of(stage, ledger))
        assert f"ended process {left} (sleep) of job {before}, which has ended" in log_of(stage, ledger)
        assert not Path(f"/proc/{left}").exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)
