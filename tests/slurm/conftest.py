"""One real cluster for all tests that need SLURM, in a folder and on ports of its own; chains of stages sent to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.engine import state
from jobs.engine.facts import gather
from jobs.engine.plan import plan
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Stage
from jobs.engine.submit import submit
from slurm import local
from slurm.profile import Profile


@dataclass(frozen=True)
class LocalCluster:
    folder: Path
    env: dict[str, str]
    """What must be added to an environment so that SLURM's commands and submitit find this cluster."""

    def run(self, *argv: str, timeout_s: float = 180) -> str:
        """Standard output of a command pointed at this cluster; fails the test when the command fails."""
        done = subprocess.run(
            argv, env={**os.environ, **self.env}, cwd=self.folder.parent, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def submit(self, script: str, *options: str) -> int:
        """Submit a shell script given as text; its output goes to job-ID.out beside the cluster's folder."""
        output = str(self.folder.parent / "job-%j.out")
        answer = self.run(
            "sbatch", "--parsable", f"--output={output}", "--open-mode=append", *options, "--wrap", script
        )
        return int(answer.strip().split(";")[0])

    def output(self, job: int) -> str:
        path = self.folder.parent / f"job-{job}.out"
        return path.read_text() if path.exists() else ""

    def job(self, job: int) -> dict[str, str]:
        """What the controller says of a job, by SLURM's own names (JobState, Restarts, NodeList, ...)."""
        fields = self.run("scontrol", "show", "job", "-o", str(job)).split()
        return dict(field.split("=", 1) for field in fields if "=" in field)

    def wait(self, job: int, state: str, seconds: float = 30) -> dict[str, str]:
        found: dict[str, str] = {}

        def reached() -> bool:
            found.update(self.job(job))
            return found["JobState"] == state

        eventually(reached, seconds, lambda: f"job {job} is {found}, not {state}")
        return found


PATIENCE = 4
"""Other tests run beside these, on two cores in the CI."""


def eventually(condition: Callable[[], object], seconds: float, failure: Callable[[], str]) -> None:
    """seconds: within which it happens on an idle machine; it may take PATIENCE times as long."""
    deadline = time.monotonic() + PATIENCE * seconds
    while not condition():
        assert time.monotonic() < deadline, failure()
        time.sleep(0.1)


@pytest.fixture(scope="session")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Four idle nodes, h100-[1-2] and a100-[1-2]; free ports are taken, so a cluster of yours may run beside it."""
    folder = tmp_path_factory.mktemp("slurm") / "cluster"
    try:
        local.up(folder)
        yield LocalCluster(folder, local.env(folder))
    finally:
        local.down(folder)
        shutil.rmtree(folder / "db", ignore_errors=True)  # pytest keeps the folders of three runs


@pytest.fixture
def on_the_local_cluster(local_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM's commands and submitit find the cluster from this process, too."""
    for key, value in local_cluster.env.items():
        monkeypatch.setenv(key, value)


def send(stages: list[Stage], ledger: Ledger, profile: Profile) -> dict[str, str]:
    """Submit what is not done yet; stage -> job id."""
    ledger.create()
    return submit(plan(stages, gather(stages, ledger)), profile, ledger)


def until(
    stages: list[Stage], ledger: Ledger, reached: Callable[[dict[str, state.StageState]], object], seconds: float = 60
) -> dict[str, state.StageState]:
    """stage (or batch of stages) -> its state, once `reached` is true of them."""
    found: dict[str, state.StageState] = {}

    def asked() -> object:
        found.update({one.stage: one for one in state.status(stages, ledger)})
        return reached(found)

    eventually(asked, seconds, lambda: f"still {found}\n{''.join(log_of(stage, ledger) for stage in stages)}")
    return found


def until_ended(stages: list[Stage], ledger: Ledger, seconds: float = 90) -> dict[str, state.StageState]:
    """stage (or batch of stages) -> its state, once nothing of the chain waits or runs."""
    return until(stages, ledger, lambda found: not any(one.live for one in found.values()), seconds)


def log_of(stage: Stage, ledger: Ledger) -> str:
    logs = sorted((ledger.folder / stage.name / "jobs").glob("*.out"))
    return "\n".join(path.read_text(errors="replace") for path in logs)
