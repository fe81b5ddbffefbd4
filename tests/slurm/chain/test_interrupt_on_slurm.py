"""Ctrl-C in a demo, at every stage of its chain: what it says is true, and the next demo resumes.

The demo's own code runs it, on the real scheduler; only the stages are short, so that each can be met while it runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import eventually

from slurm.local import cluster, processes
from slurm.local.folder import in_use, read_record

pytestmark = pytest.mark.cluster

DEMO = """
import os, signal, sys, time
from dataclasses import replace
from pathlib import Path

import cloudpickle
from jobs.cli.run import demo
from jobs.cli.main import main
from jobs.engine.stage import Artifact, Stage
from slurm.sbatch import Resources

cloudpickle.register_pickle_by_value(sys.modules["__main__"])

def work(run):
    # Takes its time to end when it is told to, as a training does: SLURM then shows the job as COMPLETING.
    def slowly(*_):
        time.sleep(1.5)
        os._exit(1)
    signal.signal(signal.SIGTERM, slowly)
    (run.out / f"begun.{run.cell}").touch()
    while not Path(HOLD, run.stage.name).exists():
        time.sleep(0.05)
    with (run.run_dir / "order").open("a") as file:
        file.write(f"{run.stage.name}.{run.cell}\\n")
    (run.out / "made").write_text("made")

HOLD = os.environ["HOLD"]
small = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)
stages = []
for name in os.environ["STAGES"].split():
    before = {"x": stages[-1] / "made"} if stages else {}
    on = replace(small, nodes=2) if name == "grm_rl" else small
    stages.append(Stage(name, work, (Artifact("made"),), on, needs=before, array=2 if name == "distill" else 1))
resolve = demo.recipes.resolve
demo.recipes.resolve = lambda request: replace(resolve(request), stages=stages)
demo.prepare = lambda inputs: None
demo.show_result = lambda folder, report: print("the result")
main(["demo", "--run", sys.argv[1]])
"""
STAGES = ("distill", "split", "proxy_sft", "grm_sft", "grm_rl", "evaluate", "transfer", "report")


@dataclass
class Demo:
    folder: Path
    environment: dict[str, str]

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", DEMO, str(self.run)]
        return subprocess.Popen(
            command, env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def allow(self, stage: str) -> None:
        (self.folder / "hold" / stage).touch()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    (tmp_path / "hold").mkdir()
    named = {"PROXYGRM_CLUSTER_DIR": str(tmp_path / "cluster"), "HOLD": str(tmp_path / "hold")}
    yield Demo(tmp_path, {**os.environ, **named, "STAGES": " ".join(STAGES)})
    cluster.down(tmp_path / "cluster")


def test_ctrl_c_at_every_stage_is_followed_by_a_demo_that_resumes(demo: Demo) -> None:
    for number, stage in enumerate(STAGES):
        process = demo.start()
        begun = demo.run / stage / "begun.0"
        eventually(begun.exists, 60, lambda: f"{stage} has not begun")  # noqa: B023 - called at once
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 130, (stage, out, err)
        assert "the demo's jobs were cancelled" in err
        assert "jobs continue" not in err
        assert not cluster.controller_runs(demo.folder / "cluster"), "nobody uses it any more"
        for done in STAGES[: number + 1]:
            demo.allow(done)
    process = demo.start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    assert "the result" in out
    assert not cluster.controller_runs(demo.folder / "cluster")
    order = [line.split(".")[0] for line in (demo.run / "order").read_text().split()]
    # Two of distill's elements and two of RL's nodes; nothing that was finished ran again.
    assert order == [name for name in STAGES for _ in range(2 if name in ("distill", "grm_rl") else 1)]


def test_a_demo_stopped_while_the_cluster_starts_leaves_nothing_of_it(demo: Demo) -> None:
    process = demo.start()
    folder = demo.folder / "cluster"
    eventually((folder / "run" / "mysql.sock").exists, 60, lambda: "no database has started")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, "Traceback" in err) == (130, False), err
    record = read_record(folder)
    assert record
    assert processes.marked(record.id) == []
    assert record.host is None, "stopped cleanly"


def test_whoever_closes_the_terminal_or_presses_ctrl_c_again_and_again_ends_the_demo_once(demo: Demo) -> None:
    process = demo.start()
    eventually((demo.run / "distill" / "begun.0").exists, 60, lambda: "distill has not begun")
    process.send_signal(signal.SIGHUP)
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, "the demo's jobs were cancelled" in err) == (130, True), err
    assert not cluster.controller_runs(demo.folder / "cluster")


def test_a_temporary_cluster_goes_down_when_nobody_uses_it_and_not_before(demo: Demo) -> None:
    folder = demo.folder / "cluster"
    cluster.up(folder, temporary=True)
    with in_use(folder):
        assert cluster.down_if_unused(folder) == "another command uses it"
    environment = {**os.environ, **cluster.env(folder)}
    sbatch = ["sbatch", "--parsable", "-p", "gpu", "-o", "/dev/null", "--wrap", "sleep 600"]
    job = subprocess.run(sbatch, env=environment, capture_output=True, text=True, check=True, cwd=demo.folder).stdout
    assert job.strip() in cluster.down_if_unused(folder)
    assert cluster.controller_runs(folder)
    subprocess.run(["scancel", job.strip()], env=environment, check=True)

    def idle() -> bool:
        left = subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True, check=True)
        return not left.stdout

    eventually(idle, 30, lambda: "the job does not end")
    assert cluster.down_if_unused(folder) == ""
    assert not cluster.controller_runs(folder)
    cluster.up(folder, temporary=True)
    cluster.up(folder)  # a submit, which its jobs keep up
    assert cluster.down_if_unused(folder) == ""
    cluster.up(folder, temporary=True)
    cluster.up(folder, temporary=False)  # a person wants it
    assert cluster.down_if_unused(folder) == "it was up before"
    cluster.up(folder, temporary=True)  # and a demo takes nothing away from them
    assert cluster.down_if_unused(folder) == "it was up before"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that belongs to somebody else")
@pytest.mark.parametrize("words", ["cluster up", "cluster down", "cluster env", "submit --run mine", "demo --run mine"])
def test_root_neither_starts_nor_stops_nor_writes_anything_in_a_user_s_checkout(tmp_path: Path, words: str) -> None:
    theirs = tmp_path / "checkout"
    (theirs / "cluster").mkdir(parents=True)
    for path in (theirs, theirs / "cluster"):
        os.chown(path, 12345, 12345)
    before = sorted(theirs.rglob("*"))
    environment = {**os.environ, "PROXYGRM_CLUSTER_DIR": str(theirs / "cluster")}
    command = [sys.executable, "-m", "jobs", *words.split()]
    done = subprocess.run(command, cwd=theirs, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout
    assert "belongs to user 12345, and you are root: become user 12345" in done.stderr
    assert sorted(theirs.rglob("*")) == before


def test_a_stage_whose_job_is_ending_is_sent_again_and_waits_for_nothing(demo: Demo) -> None:
    """Cancelled by hand, and submitted again while SLURM shows the job as COMPLETING."""
    process = demo.start()
    eventually((demo.run / "distill" / "begun.0").exists, 60, lambda: "distill has not begun")
    environment = {**os.environ, **cluster.env(demo.folder / "cluster")}
    first = json.loads((demo.run / "submissions.json").read_text())["distill"]["job_id"]
    subprocess.run(["scancel", first], env=environment, check=True)
    process.communicate(timeout=300)
    again = demo.start()

    def sent_anew() -> bool:
        return json.loads((demo.run / "submissions.json").read_text())["distill"]["job_id"] != first

    eventually(sent_anew, 60, lambda: "nothing was sent")
    for stage in STAGES:
        demo.allow(stage)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, (out, err)
