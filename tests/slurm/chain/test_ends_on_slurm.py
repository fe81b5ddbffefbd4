"""Jobs that SLURM ends for good: out of time, without their node, preempted. Each end is a real one, told as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from conftest import LocalCluster, eventually, send, until, until_ended

from jobs.engine.facts import gather
from jobs.engine.plan import plan
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.watch import cost
from jobs.engine.watch.why import explain_run, explain_stage
from slurm import local
from slurm.profile import Health, Profile, Scheduler
from slurm.sbatch import Resources

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ON = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)


def hold_on(run: StageRun) -> None:
    """Deaf to the signal at which jobs requeue themselves."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    run.progress(1, 10, "holding on")
    time.sleep(1000)


def profile(partition: str, node: str) -> Profile:
    scheduler = Scheduler(partition=partition, signal_before_end_s=10, sbatch={"nodelist": node})
    return Profile("test", scheduler=scheduler, health=Health(preflight=False))


@pytest.fixture
def cluster(local_cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The cluster of all tests, whole again afterwards."""

    def states() -> set[str]:
        return {node.state for node in local.status(local_cluster.folder).nodes}

    yield local_cluster
    local.up(local_cluster.folder)
    eventually(lambda: states() == {"idle"}, 60, lambda: f"nodes are {states()}")


def test_time_nodes_and_preemption_end_jobs_in_words_of_their_own(cluster: LocalCluster, tmp_path: Path) -> None:
    stages = [Stage(name, hold_on, (Artifact("x"),), ON) for name in ("slow", "lost", "weak")]
    ledger = Ledger(tmp_path / "run")
    places = [("gpu", "a100-1"), ("gpu", "a100-2"), ("scavenge", "h100-2")]
    jobs = [send([stage], ledger, profile(*place))[stage.name] for stage, place in zip(stages, places, strict=True)]
    until(stages, ledger, lambda found: all(one.done == 1 for one in found.values()))

    for job in jobs:
        subprocess.run(["scontrol", "update", f"jobid={job}", "Requeue=0"], check=True)
    subprocess.run(
        ["scontrol", "update", f"jobid={jobs[0]}", "EndTime=now+1"], check=True
    )  # a limit is a minute at least
    (daemon,) = [one for one in local.status(cluster.folder).daemons if one.name.endswith("a100-2")]
    os.kill(daemon.pid or 0, signal.SIGKILL)
    cluster.submit("true", "--partition=high", "--nodelist=h100-2", "--exclusive")
    found = until_ended(stages, ledger)

    assert {name: one.word for name, one in found.items()} == {
        "slow": "timed out",
        "lost": "node failed",
        "weak": "preempted",
    }
    told = {name: explain_stage(name, stages, ledger) for name in found}
    assert told["slow"].sentence == "slow timed out: its time limit passed"
    assert "DUE TO TIME LIMIT" in told["slow"].lines[0].text
    assert told["lost"].sentence == "lost lost its node a100-2"
    assert told["weak"].sentence == "weak was preempted and not requeued"
    assert explain_run(stages, ledger) == told["slow"]

    def hours() -> list[cost.Cost]:
        return cost.of_run(stages, ledger)

    # Accounting hears of an end a moment later.
    eventually(lambda: all(0 < one.lost_cpu_h == one.used_cpu_h for one in hours()), 20, lambda: str(hours()))
    assert {line.action for line in plan(stages, gather(stages, ledger))} == {"run"}
