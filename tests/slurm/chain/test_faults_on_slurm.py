"""Faults in mid-chain on the real scheduler. After each, one more submit ends with the result of a quiet run.

The chain is short but has what real ones have: an array that resumes at the row, a training that resumes at its last
checkpoint, and a stage that reads both. `docs/faults.md` is the table of what these tests see.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cloudpickle
import psutil
import pytest
from conftest import LocalCluster, eventually, send, until, until_ended

from jobs.engine import state
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json
from jobs.engine.stage import Artifact, Stage, StageRun
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.core.runtime.save_now import listening
from slurm import local
from slurm.local import folder as folders
from slurm.local import processes
from slurm.profile import Health, Profile, Scheduler
from slurm.sbatch import Resources

pytestmark = pytest.mark.cluster
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PROFILE = Profile("test", scheduler=Scheduler(partition="gpu", signal_before_end_s=10), health=Health(preflight=False))
SMALL = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)
STEPS, ROWS, SAVE_EVERY = 12, 8, 3


@dataclass(frozen=True)
class Pace:
    """Seconds a row and a step take; again_s: a step of a later attempt. hold_at: the step in which the first attempt
    stays until it is told to save or is killed, so that the fault never comes too late for it."""

    row_s: float = 0.02
    step_s: float = 0.02
    again_s: float = 0.02
    factor: int = 3
    hold_at: int = 0


def write_rows(run: StageRun) -> None:
    """Appends the rows that are missing, as distillation does."""
    path = run.out / "rows" / f"{run.cell}.txt"
    path.parent.mkdir(exist_ok=True)
    have = path.read_text().count("\n") if path.exists() else 0
    for number in range(have, ROWS):
        with path.open("a") as file:
            file.write(f"{run.cell}:{number * run.config.factor}\n")
        run.progress(number + 1, ROWS, "rows")
        time.sleep(run.config.row_s)


TRAINING = """
import sys, time
from pathlib import Path
from proxygrm.core.runtime.save_now import SaveNow

out, save_steps, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
first_s, again_s, hold_at = float(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
checkpoint, job = out / "checkpoint", SaveNow(out)
job.clear()
start = int(checkpoint.read_text()) if checkpoint.exists() else 0
for step in range(start + 1, steps + 1):
    with (out / "steps.log").open("a") as log:
        log.write(f"{step}\\n")
    time.sleep(again_s if start else first_s)
    while step == hold_at and not start and not job.is_requested():
        time.sleep(0.02)
    if step % save_steps == 0 or job.is_requested():
        scratch = checkpoint.with_suffix(".tmp")
        scratch.write_text(str(step))
        scratch.replace(checkpoint)
    if job.is_requested():
        sys.exit(job.answer(f"A checkpoint of step {step} is there to go on from"))
(out / "policy").write_text(f"policy after {steps} steps\\n")
"""
"""Counts steps from the last checkpoint on; every step taken is noted, so that a test can see what was redone."""


def train(run: StageRun) -> None:
    """A process of its own that saves now and then, and when it is asked to, as ms-swift's and verl's do."""
    pace, taken = run.config, run.out / "steps.log"
    numbers = map(str, (run.out, SAVE_EVERY, STEPS, pace.step_s, pace.again_s, pace.hold_at))
    command = [sys.executable, "-c", TRAINING, *numbers]
    with ChildProcess(command, run.out / "training.log") as process, listening(run.out, process):
        while process.poll() is None:
            time.sleep(0.02)
            if taken.exists() and (steps := taken.read_text().split()):
                run.progress(int(steps[-1]), STEPS, "training")
    process.raise_if_failed("the training")


def evaluate(run: StageRun) -> None:
    rows = "".join(file.read_text() for file in sorted(run.inputs["rows"].iterdir()))
    (run.out / "summary.txt").write_text(rows + run.inputs["policy"].read_text())


def chain(pace: Pace) -> list[Stage]:
    rows = Stage("distill", write_rows, (Artifact("rows"),), SMALL, config=pace, array=2)
    rl = Stage("grm_rl", train, (Artifact("policy"),), SMALL, config=pace, needs={"rows": rows / "rows"})
    needs = {"rows": rows / "rows", "policy": rl / "policy"}
    return [rows, rl, Stage("evaluate", evaluate, (Artifact("summary.txt"),), SMALL, config=pace.factor, needs=needs)]


EXPECTED = "".join(f"{cell}:{number * 3}\n" for cell in (0, 1) for number in range(ROWS)) + "policy after 12 steps\n"


@dataclass
class Site:
    """The faulty cluster, and one chain on it."""

    cluster: LocalCluster
    ledger: Ledger
    pace: Pace
    profile: Profile = PROFILE

    @property
    def stages(self) -> list[Stage]:
        return chain(self.pace)

    def submit(self) -> dict[str, str]:
        with self.ledger.lock("submit"):
            return send(self.stages, self.ledger, self.profile)

    def status(self) -> dict[str, state.StageState]:
        return {found.stage: found for found in state.status(self.stages, self.ledger)}

    def until(self, condition: Callable[[dict[str, state.StageState]], object], seconds: float = 60) -> None:
        until(self.stages, self.ledger, condition, seconds)

    def until_step(self, step: int) -> None:
        eventually(lambda: self.steps().count(step), 40, lambda: f"no step {step}: {self.status()}")

    def until_all_ended(self) -> dict[str, state.StageState]:
        return until_ended(self.stages, self.ledger)

    def steps(self) -> list[int]:
        path = self.ledger.folder / "grm_rl" / "steps.log"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def assert_same_result(self) -> None:
        words = {name: (one.word, one.detail) for name, one in self.until_all_ended().items()}
        assert {word for word, _ in words.values()} == {"done"}, words
        assert (self.ledger.folder / "evaluate" / "summary.txt").read_text() == EXPECTED

    def attempts(self, stage: str) -> int:
        return int(read_json(self.ledger.folder / stage / "DONE.json")["attempts"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster of its own, because its daemons are killed."""
    folder = tmp_path_factory.mktemp("faulty") / "cluster"
    spec = local.ClusterSpec(nodes=(("h100", 3),), preempt_grace_s=20)
    try:
        local.up(folder, spec=spec)
        yield LocalCluster(folder, local.env(folder))
    finally:
        local.down(folder)


@pytest.fixture
def site(cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for key, value in cluster.env.items():
        monkeypatch.setenv(key, value)
    found = Site(cluster, Ledger(tmp_path / "run"), Pace(step_s=0.3))
    eventually(lambda: {node.state for node in local.status(cluster.folder).nodes} == {"idle"}, 60, lambda: "not idle")
    yield found
    if local.up(cluster.folder):
        time.sleep(3)  # SLURM ends jobs that it launches on a node in the second in which that node comes back
    jobs = [row["job_id"].split("_")[0] for row in found.ledger.submissions().values()]
    subprocess.run(["scancel", *jobs], check=False)


def test_a_node_that_dies_costs_the_steps_since_the_last_checkpoint(site: Site) -> None:
    site.pace = Pace(step_s=0.3, hold_at=5)
    site.submit()
    site.until_step(5)
    (job,) = [row["job_id"] for name, row in site.ledger.submissions().items() if name == "grm_rl"]
    node = site.cluster.job(int(job))["NodeList"]
    record = folders.read_record(site.cluster.folder)
    assert record is not None
    mine = processes.job_processes(record.id, folders.conf_path(site.cluster.folder))
    (daemon,) = [d for d in local.status(site.cluster.folder).daemons if d.name.endswith(node)]
    os.kill(daemon.pid or 0, signal.SIGKILL)
    for process in mine:  # a node that dies takes its processes along
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    site.assert_same_result()
    assert site.ledger.submissions()["grm_rl"]["job_id"] == job
    assert site.attempts("grm_rl") == 2
    redone = len(site.steps()) - STEPS
    assert 0 < redone <= SAVE_EVERY


def test_a_controller_that_is_restarted_in_mid_chain_costs_nothing(site: Site) -> None:
    site.submit()
    site.until_step(3)
    (daemon,) = [d for d in local.status(site.cluster.folder).daemons if d.name == "slurmctld"]
    os.kill(daemon.pid or 0, signal.SIGTERM)  # a restart saves its state; SIGKILL may lose jobs of the last seconds
    eventually(lambda: ended(daemon.pid or 0), 30, lambda: "slurmctld does not end")
    assert local.up(site.cluster.folder) is True
    site.assert_same_result()
    assert site.steps() == list(range(1, STEPS + 1))


def ended(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # of a daemon that this process has started
    return True


def test_a_preempted_stage_saves_is_requeued_under_its_id_and_does_nothing_twice(site: Site) -> None:
    site.profile = replace(site.profile, scheduler=replace(site.profile.scheduler, partition="scavenge"))
    site.pace = Pace(step_s=0.3, hold_at=5)
    first = site.submit()
    site.until_step(5)
    high = site.cluster.submit("sleep 2", "--partition=high", "--nodes=3", "--gres=gpu:8", "--exclusive")
    site.cluster.wait(high, "COMPLETED", 60)
    site.assert_same_result()
    assert site.ledger.submissions()["grm_rl"]["job_id"] == first["grm_rl"]
    assert site.attempts("grm_rl") == 2
    assert site.steps() == list(range(1, STEPS + 1))  # saved when it was told, so nothing was done twice


def test_the_time_limit_requeues_a_stage_that_saves_before_and_resumes(site: Site) -> None:
    site.profile = replace(site.profile, scheduler=replace(site.profile.scheduler, signal_before_end_s=20))
    site.pace = Pace(step_s=3, hold_at=2)
    first = site.submit()
    site.until_step(2)
    # SLURM looks at limits every half minute, and tells those that would meet theirs before the next look.
    job = first["grm_rl"]
    subprocess.run(["scontrol", "update", f"JobId={job}", "EndTime=now+50"], check=True)
    site.assert_same_result()
    assert site.ledger.submissions()["grm_rl"]["job_id"] == job
    assert site.attempts("grm_rl") == 2
    assert site.steps() == list(range(1, STEPS + 1))


def test_a_cancelled_stage_takes_its_successors_along_and_is_resumed(site: Site) -> None:
    site.pace = Pace(step_s=0.3, hold_at=7)
    site.submit()
    site.until_step(7)
    subprocess.run(["scancel", site.ledger.submissions()["grm_rl"]["job_id"]], check=True)
    found = site.until_all_ended()
    assert (found["grm_rl"].word, found["evaluate"].word) == ("cancelled", "cancelled")
    assert set(site.submit()) == {"grm_rl", "evaluate"}
    site.assert_same_result()
    assert site.steps().count(6) == 1  # saved
    assert len(site.steps()) - STEPS <= SAVE_EVERY


def test_a_record_that_is_gone_is_proven_again_without_doing_the_work_again(site: Site) -> None:
    site.pace = Pace()
    site.submit()
    site.assert_same_result()
    (site.ledger.folder / "grm_rl" / "DONE.json").unlink()
    assert set(site.submit()) == {"grm_rl", "evaluate"}
    site.assert_same_result()
    assert site.steps() == list(range(1, STEPS + 1))


def relinked(stages: list[Stage]) -> list[Stage]:
    rows, rl, last = stages
    rl = replace(rl, needs={"rows": rows / "rows"})
    return [rl, replace(last, needs={"rows": rows / "rows", "policy": rl / "policy"})]


def test_a_changed_stage_is_rebuilt_with_what_follows_and_nothing_else(site: Site) -> None:
    site.pace = Pace()
    site.submit()
    site.assert_same_result()
    before = (site.ledger.folder / "distill" / "DONE.0.json").read_text()
    rows, rl, last = site.stages
    edited = [rows, *relinked([rows, replace(rl, config=Pace(factor=4)), last])]
    send(edited, site.ledger, site.profile)
    eventually(
        lambda: all(one.word == "done" for one in state.status(edited, site.ledger)), 60, lambda: str(site.status())
    )
    assert (site.ledger.folder / "distill" / "DONE.0.json").read_text() == before
    assert site.steps() == list(range(1, STEPS + 1))
    assert [path for path in site.ledger.folder.glob("grm_rl.*") if (path / "policy").exists()]


def test_two_users_who_submit_at_once_run_the_chain_once(site: Site) -> None:
    site.pace = Pace()
    site.ledger.create()
    answers: list[object] = []

    def one() -> None:
        try:
            answers.append(Site(site.cluster, Ledger(site.ledger.folder), site.pace).submit())
        except UserError as error:
            answers.append(error)

    users = [threading.Thread(target=one) for _ in range(2)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    sent = [answer for answer in answers if isinstance(answer, dict)]
    refused = [answer for answer in answers if isinstance(answer, UserError)]
    assert len(sent) + len(refused) == 2
    assert all("another submit is working" in str(error) for error in refused), refused
    # The one who comes when the first has finished waits for the first's jobs.
    assert all(jobs == sent[0] for jobs in sent)
    site.assert_same_result()
    assert site.steps() == list(range(1, STEPS + 1))


def test_a_full_disk_is_reported_and_the_chain_resumes_when_there_is_room(site: Site, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        site.ledger, site.pace = Ledger(disk / "run"), Pace(step_s=1.0)
        site.submit()
        site.until_step(2)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        found = site.until_all_ended()
        assert found["grm_rl"].word == "failed"
        filler.unlink()
        site.submit()
        site.assert_same_result()
        assert len(site.steps()) - STEPS <= SAVE_EVERY
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_an_undisturbed_chain_makes_what_the_others_are_compared_with(site: Site) -> None:
    site.pace = Pace()
    site.submit()
    site.assert_same_result()
    assert json.loads((site.ledger.folder / "submissions.json").read_text()).keys() == {"distill", "grm_rl", "evaluate"}
