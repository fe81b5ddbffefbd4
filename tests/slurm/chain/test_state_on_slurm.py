"""What status, why, logs, cost and cancel say of real jobs that wait, run, are requeued, fail and are cancelled."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import psutil
import pytest
from click.testing import CliRunner
from conftest import LocalCluster, eventually, send, until, until_ended

from jobs import recipes
from jobs.cli.main import main
from jobs.engine import request, state
from jobs.engine.check import other_jobs
from jobs.engine.facts import gather
from jobs.engine.plan import Sending, plan
from jobs.engine.request import Request
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.submit import submit
from jobs.engine.watch import cost, logs
from jobs.engine.watch.why import explain_stage
from slurm import limits
from slurm.profile import Health, Node, Profile, Scheduler
from slurm.sbatch import Resources
from support.refusals import refused

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
# The job cannot import this test module, so its functions travel by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SMALL = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)
WITH_GPU = Resources(cpus_per_task=2, gpus_per_node=2, mem_gb=1, timeout_min=60)
PROFILE = Profile("test", scheduler=Scheduler(partition="gpu"), health=Health(preflight=False))


def work_until_told(run: StageRun) -> None:
    """Its first attempt goes on until it is ended; the second makes what is to be made."""
    attempt = int(os.environ.get("SLURM_RESTART_COUNT", "0")) + 1
    print(f"this is attempt {attempt}", flush=True)
    run.progress(3, 10, "rows")
    while attempt == 1 or not (run.out / "go").exists():
        time.sleep(0.1)
    (run.out / "rows").write_text("made")


def copy_rows(run: StageRun) -> None:
    (run.out / "copy").write_text(run.inputs["rows"].read_text())


def need_a_module(run: StageRun) -> None:
    importlib.import_module("a_module_nobody_has")


def be_killed(run: StageRun) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(run: StageRun) -> None:
    """With a child that outlives its parent unless somebody ends it."""
    subprocess.Popen(["sleep", run.config], start_new_session=True)
    time.sleep(1000)


def copying(name: str, upstream: Stage) -> Stage:
    return Stage(name, copy_rows, (Artifact("copy"),), SMALL, needs={"rows": upstream / "rows"})


def test_a_requeued_stage_is_followed_through_its_attempts(tmp_path: Path) -> None:
    first = Stage("first", work_until_told, (Artifact("rows"),), WITH_GPU)
    stages, ledger = [first, copying("second", first)], Ledger(tmp_path / "it's a run")
    jobs = send(stages, ledger, PROFILE)

    # SLURM counts whole seconds.
    states = until(stages, ledger, lambda found: found["first"].done == 3 and found["first"].seconds > 2)
    assert (states["first"].word, states["first"].total, states["first"].attempt) == ("running", 10, 1)
    assert (states["second"].word, states["second"].detail) == ("waiting", "for first")
    assert explain_stage("second", stages, ledger).sentence.startswith("second waits for first, which is running rows")

    subprocess.run(["scontrol", "requeue", jobs["first"]], check=True)
    states = until(stages, ledger, lambda found: found["first"].word == "requeued")
    assert states["first"].detail.startswith("1 time")
    assert states["second"].word == "waiting"
    told = explain_stage("first", stages, ledger)
    assert told.sentence.startswith("first was requeued (1 time")
    assert "no record gives the reason" in told.sentence

    # Not hurried with `scontrol update starttime=now`: the node would still take it for the job it has just ended.
    states = until(stages, ledger, lambda found: found["first"].word == "running" and found["first"].done == 3)
    assert states["first"].attempt == 2
    (ledger.folder / "first" / "go").touch()
    states = until_ended(stages, ledger)
    assert {one.word for one in states.values()} == {"done"}, states
    assert states["first"].attempt == 2

    found = logs.segments(first, ledger)
    assert [one.attempt for one in found] == [1, 2]
    assert "this is attempt 1" in found[0].lines
    (last,) = logs.select(found, None, "0")
    assert "this is attempt 2" in last.lines
    assert "this is attempt 1" not in last.lines
    assert logs.select(found, 1, last.node), "the node's name serves as well as its number"

    def hours_told() -> dict[str, cost.Cost]:
        return {one.stage: one for one in cost.of_run(stages, ledger)}

    # Accounting hears of an attempt a moment later.
    eventually(lambda: hours_told()["first"].attempts == 2, 20, lambda: str(hours_told()))
    hours = hours_told()
    assert (hours["first"].jobs, hours["first"].attempts) == (1, 2)
    assert hours["first"].asked_gpu_h == 2.0
    assert 2 * 2 / 3600 <= hours["first"].lost_gpu_h <= hours["first"].used_gpu_h < 1  # 2 GPUs for 2 s at least
    assert hours["second"].used_gpu_h == 0 < hours["second"].asked_cpu_h


def test_ends_are_told_apart_and_explained_by_the_lines_that_show_them(tmp_path: Path) -> None:
    module = Stage("module", need_a_module, (Artifact("rows"),), SMALL)
    killed = Stage("killed", be_killed, (Artifact("rows"),), SMALL)
    ended = Stage("ended", wait_for_ever, (Artifact("rows"),), SMALL, config="1000.01")
    after = copying("after", module)
    stages, ledger = [module, killed, ended, after], Ledger(tmp_path / "run")
    jobs = send(stages, ledger, PROFILE)
    until(stages, ledger, lambda found: found["ended"].word == "running")
    subprocess.run(["scancel", jobs["ended"]], check=True)
    states = until_ended(stages, ledger)
    words = {name: one.word for name, one in states.items()}
    assert words == {"module": "failed", "killed": "failed", "ended": "cancelled", "after": "cancelled"}

    told = {name: explain_stage(name, stages, ledger) for name in words}
    assert told["module"].sentence == "module failed: Python in the job has no a_module_nobody_has"
    assert told["module"].lines[-1].text.startswith("ModuleNotFoundError: No module named 'a_module_nobody_has'")
    file = ledger.folder / told["module"].lines[-1].file
    assert file.read_text().splitlines()[told["module"].lines[-1].line - 1].strip() == told["module"].lines[-1].text
    assert "it was killed (SIGKILL)" in told["killed"].sentence
    assert told["ended"].sentence == "ended was cancelled by a user or a script (scancel)"
    assert told["after"].sentence == "after was cancelled because module, which it needs, failed"


def test_a_held_chain_waits_for_another_job_and_an_id_that_would_mislead_is_refused(
    tmp_path: Path, local_cluster
) -> None:
    other, broken = local_cluster.submit("sleep 300"), local_cluster.submit("exit 3")
    first = Stage("first", be_killed, (Artifact("rows"),), SMALL)
    stages, ledger = [first, copying("second", first)], Ledger(tmp_path / "run")
    ledger.create()
    sending = Sending(hold=True, after=(str(other),))
    other_jobs(sending.after)
    jobs = submit(plan(stages, gather(stages, ledger)), PROFILE, ledger, sending=sending)
    found = local_cluster.job(int(jobs["first"]))
    assert found["Dependency"].startswith(f"afterok:{other}")
    assert found["Priority"] == "0", "held"
    assert local_cluster.job(int(jobs["second"]))["Priority"] != "0"
    states = state.each(stages, ledger)
    assert {one.word for one in states.values()} <= {"pending", "waiting"}
    assert states["second"].detail == "for first"
    local_cluster.wait(broken, "FAILED")
    with refused("submit.failed-job", job=str(broken), state="FAILED"):
        other_jobs([str(broken)])
    with refused("submit.unknown-job", job="999999"):
        other_jobs(["999999"])
    subprocess.run(["scancel", str(other), *jobs.values()], check=True)


def test_the_live_partition_is_asked_before_the_queue_is(local_cluster) -> None:
    wrong = [
        (PROFILE, Resources(nodes=5), "s requests 5 nodes, partition gpu has 4 that are large enough"),
        (PROFILE, Resources(gpus_per_node=9), "s requests 9 GPUs per node, partition gpu has at most 8"),
        (replace(PROFILE, node=Node(gpu_type="h200")), Resources(gpus_per_node=1), "s requests GPUs of type h200"),
        (replace(PROFILE, scheduler=Scheduler(partition="nope")), Resources(gpus_per_node=1), "there is no partition"),
    ]
    for profile, on, words in wrong:
        (problem,) = limits.problems([Stage("s", be_killed, (), on)], profile)
        assert problem.startswith(words)
    assert limits.problems([Stage("s", be_killed, (), WITH_GPU)], replace(PROFILE, node=Node(gpu_type="h100"))) == []
    assert limits.problems([Stage("s", be_killed, (), SMALL)], replace(PROFILE, scheduler=Scheduler())) == []


def test_the_largest_array_that_slurm_takes_is_the_largest_that_a_plan_takes(local_cluster: LocalCluster) -> None:
    def refusals(number: int) -> list[str]:
        return limits.arrays_too_large([[Stage("s", be_killed, (), SMALL, array=number)]])

    config = local_cluster.run("scontrol", "show", "config")
    (most,) = [int(line.split("=")[1]) for line in config.splitlines() if line.startswith("MaxArraySize")]
    for number in (most, most + 1):
        asked = ["sbatch", "--hold", "--parsable", f"--array=0-{number - 1}", "--output=/dev/null", "--wrap=true"]
        sent = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert (sent.returncode == 0) == (refusals(number) == []), sent.stderr
        if sent.returncode == 0:
            subprocess.run(["scancel", sent.stdout.strip()], check=True)
    assert refusals(most + 1) == [
        f"s is an array of {most + 1} jobs, SLURM here accepts {most} (MaxArraySize); fewer shards: --set s.shards=N"
    ]


def test_cancel_ends_everything_and_leaves_no_process(tmp_path: Path) -> None:
    seconds = f"1000.{os.getpid()}"
    on = Resources(nodes=2, cpus_per_task=1, mem_gb=1, timeout_min=5)
    two = Stage("two", wait_for_ever, (Artifact("rows"),), on, config=seconds)
    stages, ledger = [two, copying("after", two)], Ledger(tmp_path / "run")
    jobs = send(stages, ledger, PROFILE)
    site = tmp_path / "site.toml"
    site.write_text('preset = "demo"\n[scheduler]\npartition = "gpu"\n')
    request.save(recipes.resolve(Request(profile=str(site))), ledger)

    def children() -> list[psutil.Process]:
        return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", seconds]]

    until(stages, ledger, lambda found: found["two"].word == "running" and len(children()) == 2)
    answer = CliRunner().invoke(main, ["cancel", "--run", str(ledger.folder)])
    assert answer.exit_code == 0, answer.output
    assert all(job in answer.output for job in jobs.values())
    queue = subprocess.run(["squeue", "-h", "-j", ",".join(jobs.values())], capture_output=True, text=True, check=False)
    assert queue.stdout == ""
    eventually(lambda: children() == [], 10, lambda: f"left: {children()}")
    assert {one.word for one in state.each(stages, ledger).values()} == {"cancelled"}
    again = CliRunner().invoke(main, ["cancel", "--run", str(ledger.folder)])
    assert "nothing to cancel" in again.output
