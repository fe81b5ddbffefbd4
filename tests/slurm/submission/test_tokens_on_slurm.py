"""Submissions whose end nobody heard: the sender is killed behind sbatch, or sbatch loses the controller's answer.

A wrapper stands before the real sbatch. However it went, every job is sent once, and known.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
from conftest import LocalCluster, eventually, log_of, send, until, until_ended

from data_tools.steps.shards import Shard, Step
from jobs.engine import state
from jobs.engine.facts import gather
from jobs.engine.plan import plan
from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.steps import submit_step
from jobs.engine.watch.cancel import cancel_all
from slurm import scheduler
from slurm.profile import Health, Profile, Scheduler
from slurm.sbatch import Resources
from support.refusals import refused

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SITE = Scheduler(partition="gpu", signal_before_end_s=10, sbatch={"comment": "of team a"})
PROFILE = Profile("test", scheduler=SITE, health=Health(preflight=False))
SMALL = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


def work_when_told(run: StageRun) -> None:
    while not (run.run_dir / "go").exists():
        time.sleep(0.1)
    with (run.run_dir / "order").open("a") as file:
        file.write(f"{run.stage.name}.{run.cell}\n")
    (run.out / "made").write_text("made")


def chain() -> list[Stage]:
    """An array, a plain stage, and two stages that are sent as one array: three submissions."""
    made = (Artifact("made"),)
    first = Stage("first", work_when_told, made, SMALL, array=2)
    second = Stage("second", work_when_told, made, SMALL, needs={"x": first / "made"})
    cells = [Stage(f"cells/{name}", work_when_told, made, SMALL, needs={"x": second / "made"}) for name in "ab"]
    return [first, second, *(replace(cell, batch="cells") for cell in cells)]


def wrapper(folder: Path, monkeypatch: pytest.MonkeyPatch, **bodies: str) -> None:
    """Programs that stand before SLURM's own; `$REAL` is the path of the one of this name."""
    folder.mkdir()
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/bash\nREAL={shutil.which(name)}\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def jobs_of_this_run(ledger: Ledger) -> set[str]:
    """Ids of all jobs that were ever sent with a script of this run folder."""
    shown = subprocess.run(["scontrol", "show", "job", "-o"], capture_output=True, text=True, check=True).stdout
    own = [line for line in shown.splitlines() if str(ledger.folder) in line]
    return {(re.search(r"ArrayJobId=(\d+)", line) or re.match(r"JobId=(\d+)", line))[1] for line in own}  # type: ignore[index]


SENDS = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], *map(str, list(Path(sys.argv[1]).parents)[:2])]
import conftest, test_tokens_on_slurm as test
from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Ledger
ledger = Ledger(Path(sys.argv[2]))
ledger.create()
with ledger.lock("submit"):
    print(tokens.settle(ledger))
    conftest.send(test.chain(), ledger, test.PROFILE)
"""


def test_a_sender_that_is_killed_behind_every_sbatch_sends_each_job_once(
    local_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, ledger = chain(), Ledger(tmp_path / "it's a run")
    wrapper(tmp_path / "bin", monkeypatch, sbatch='"$REAL" "$@"; kill -9 $PPID')
    command = [sys.executable, "-c", SENDS, str(Path(__file__).parent), str(ledger.folder)]
    for number in (1, 2, 3):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -9, (number, done.stdout, done.stderr)
        (intent,) = tokens.unsettled(ledger)
        known = plan(stages, gather(stages, ledger))
        assert [line.action for line in known].count("run") == len(stages) - len(
            {name for name in ledger.submissions() if name in {stage.name for stage in stages}}
        )
        assert {one.word for one in state.each(stages, ledger).values() if one.stage in intent.stages} <= {
            "pending", "running", "waiting",
        }  # fmt: skip
        assert not set(intent.stages) & set(Ledger(ledger.folder).submissions()), "who only looks writes nothing"
    shutil.rmtree(tmp_path / "bin")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "and not recorded; it is now" in done.stdout
    assert tokens.unsettled(ledger) == []
    rows = Ledger(ledger.folder).submissions()
    assert {row["job_id"].split("_")[0] for row in rows.values()} == jobs_of_this_run(ledger)
    assert [row["earlier"] for row in rows.values()] == [[]] * 4
    assert rows["cells/b"]["job_id"] == rows["cells/a"]["job_id"].replace("_0", "_1")
    comment = local_cluster.run("squeue", "-h", "-j", rows["second"]["job_id"], "-o", "%k")
    assert comment.startswith(f"of team a {tokens.PREFIX}")
    (ledger.folder / "go").touch()
    assert {one.word for one in until_ended(stages, ledger).values()} == {"done"}, [log_of(s, ledger) for s in stages]
    order = (ledger.folder / "order").read_text().split()
    assert sorted(order) == ["cells/a.0", "cells/b.0", "first.0", "first.1", "second.0"]
    assert not list(ledger.folder.rglob(f"*{tokens.PREFIX}*")), "nothing is left of the tokens"


def test_an_answer_that_is_lost_costs_no_job_and_sends_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, ledger = chain(), Ledger(tmp_path / "run")
    wrapper(tmp_path / "bin", monkeypatch, sbatch=f'"$REAL" "$@" >/dev/null; echo "{TIMED_OUT}" >&2; exit 1')
    jobs = send(stages, ledger, PROFILE)
    assert jobs_of_this_run(ledger) == {job.split("_")[0] for job in jobs.values()}
    assert len(jobs_of_this_run(ledger)) == 3
    (ledger.folder / "go").touch()
    assert {one.word for one in until_ended(stages, ledger).values()} == {"done"}, [log_of(s, ledger) for s in stages]
    assert len((ledger.folder / "order").read_text().split()) == 5


def test_a_job_that_did_not_arrive_is_reported_and_one_in_doubt_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, ledger = chain()[:1], Ledger(tmp_path / "run")
    monkeypatch.setattr(tokens, "IN_DOUBT_S", 1.0)
    wrapper(tmp_path / "lost", monkeypatch, sbatch=f'echo "{TIMED_OUT}" >&2; exit 1')
    with refused("submit.lost", stage="first"):
        send(stages, ledger, PROFILE)
    assert tokens.unsettled(ledger) == []
    assert not list((ledger.folder / "first" / "jobs").iterdir())
    wrapper(tmp_path / "away", monkeypatch, squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    with refused("submit.in-doubt", stage="first"):
        _send_blindly(stages, ledger)
    with refused("submit.in-doubt", stages=["first"]):
        tokens.settle(ledger)
    assert len(tokens.unsettled(ledger)) == 1
    away = state.each(stages, ledger, away="it is down")["first"]
    assert (away.word, away.detail) == ("unknown", state.MAYBE_SENT)
    shutil.rmtree(tmp_path / "away")
    assert state.each(stages, ledger)["first"].detail == state.NOT_SENT
    assert "had not reached SLURM" in tokens.settle(ledger)[0]
    assert tokens.unsettled(ledger) == []


def _send_blindly(stages: list[Stage], ledger: Ledger) -> None:
    from jobs.engine.plan import Facts
    from jobs.engine.submit import submit

    submit(plan(stages, {stage.name: Facts("not done yet", stage.identity()) for stage in stages}), PROFILE, ledger)


def test_a_job_that_was_sent_and_not_recorded_is_cancelled_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, ledger = chain()[:1], Ledger(tmp_path / "run")
    wrapper(tmp_path / "bin", monkeypatch, sbatch='"$REAL" "$@"; kill -9 $PPID')
    command = [sys.executable, "-c", SENDS, str(Path(__file__).parent), str(ledger.folder)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9
    until(stages, ledger, lambda found: found["first"].word == "running")
    cancelled = cancel_all(ledger)
    assert set(cancelled) == jobs_of_this_run(ledger)
    assert len(cancelled) == 1
    # Accounting alone knows it a few minutes later, by its script's name.
    (intent,) = tokens.unsettled(ledger)
    wrapper(tmp_path / "forgets", monkeypatch, squeue="true")
    eventually(
        lambda: scheduler.find([intent.token, "proxygrm-other"], intent.begun) == {intent.token: cancelled[0]},
        60,
        lambda: "accounting does not know it",
    )
    assert state.each(stages, ledger)["first"].word == "cancelled"


def _write_part(shard: Shard, parts: Path) -> None:
    while not (parts.parent / "go").exists():
        time.sleep(0.1)
    shard.path(parts / "part.txt").write_text("part")


def _part_is_there(shard: Shard, parts: Path) -> bool:
    return shard.path(parts / "part.txt").exists()


def _merge(shards: list[Shard], parts: Path) -> dict[str, int]:
    (parts.parent / "all.txt").write_text("merged")
    return {"parts": len(shards)}


def test_a_data_step_whose_answers_are_lost_is_sent_once_and_a_second_command_finds_it(
    local_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    step = Step("ingest", out, "report.json", "stamp", _write_part, _part_is_there, _merge, out / "all.txt")
    wrapper(tmp_path / "bin", monkeypatch, sbatch=f'"$REAL" "$@" >/dev/null; echo "{TIMED_OUT}" >&2; exit 1')
    array, merge = submit_step(step, 2, PROFILE, SMALL)
    assert submit_step(step, 2, PROFILE, SMALL) == (array, merge)
    assert jobs_of_this_run(Ledger(out / ".jobs")) == {array, merge}
    (out / "go").touch()
    local_cluster.wait(int(merge), "COMPLETED", 60)
    assert json.loads((out / "report.json").read_text())["parts"] == 2
