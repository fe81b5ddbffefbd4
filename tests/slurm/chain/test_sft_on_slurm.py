"""A real fine-tuning over two nodes of the local cluster, preempted on the way: torchrun under srun, ms-swift, gloo."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import LocalCluster, eventually, log_of, send, until_ended

from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Given, Stage
from jobs.stages.training import sft
from proxygrm.core.checkpoints.check import check_checkpoint
from slurm.profile import Health, Node, Profile, Scheduler
from slurm.sbatch import Resources

pytestmark = [pytest.mark.cluster, pytest.mark.heavy, pytest.mark.usefixtures("on_the_local_cluster")]

PROFILE = Profile(
    "test",
    scheduler=Scheduler(partition="gpu", signal_before_end_s=60),
    node=Node(device="cpu"),
    health=Health(preflight=False),
)
STEPS = 30


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in `start`, `rows.jsonl`."""
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("inputs")
    build_tiny_model(folder / "start", demo_corpus(0, n=50))
    row = {"messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Red. " * 60}]}
    (folder / "rows.jsonl").write_text((json.dumps(row) + "\n") * 64)
    return folder


def training(inputs: Path, max_steps: int) -> Stage:
    """On two nodes. It saves at its end, or when a preemption asks for it."""
    settings = replace(
        sft.Settings.demo(max_steps=max_steps),
        per_device_train_batch_size=8,
        save_steps=100_000,
        logging_steps=1,
        on=Resources(nodes=2, cpus_per_task=1, mem_gb=4, timeout_min=10),
    )
    return sft.stage("sft", start=str(inputs / "start"), data=Given(str(inputs / "rows.jsonl")), settings=settings)


def until_it_trains(stage: Stage, ledger: Ledger) -> None:
    log = ledger.folder / "sft" / "swift" / "logging.jsonl"
    eventually(lambda: log.exists() and '"3/' in log.read_text(), 120, lambda: log_of(stage, ledger))


def test_two_nodes_train_one_model_and_resume_after_a_preemption(
    local_cluster: LocalCluster, inputs: Path, tmp_path: Path
) -> None:
    stage, ledger = training(inputs, STEPS), Ledger(tmp_path / "run")
    job = send([stage], ledger, PROFILE)["sft"]
    until_it_trains(stage, ledger)
    local_cluster.run("scancel", f"--signal={signal.SIGUSR2.value}", job)  # as SLURM does before the end
    eventually(lambda: local_cluster.job(int(job))["Restarts"] == "1", 60, lambda: log_of(stage, ledger))
    # Not hurried with `scontrol update starttime=now`: a node may still take it for the job it has just ended.
    ended = until_ended([stage], ledger, 120)
    assert ended["sft"].word == "done", log_of(stage, ledger)

    out = ledger.folder / "sft"
    check_checkpoint(out / "model")
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))
    assert "No checkpoint within" not in log_of(stage, ledger)
    for name in ("swift.log", "swift.node-1.log"):
        text = (out / name).read_text(errors="replace")
        assert "world_size: 2" in text
        assert f"resume_from_checkpoint={out}/swift/checkpoint-" in text
    assert len([*(out / "swanlog").glob("run-*")]) == 2  # one of node 0 for each attempt
    meetings = [json.loads(file.read_text()) for file in sorted(out.glob("nodes/*/store.json"))]
    assert len(meetings) == 2  # one for each attempt, at the first node's own address
    assert all(address.startswith("127.0.0.") and address != "127.0.0.1" for address, _ in meetings)


def processes(*words: str) -> Iterator[int]:
    """Processes with all these words in their command line."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = file.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(word in text for word in words):
            yield int(file.parent.name)


def test_a_training_that_dies_on_one_node_ends_the_job_and_the_node_is_named(inputs: Path, tmp_path: Path) -> None:
    stage, ledger = training(inputs, 1_000_000), Ledger(tmp_path / "run")
    send([stage], ledger, PROFILE)
    until_it_trains(stage, ledger)
    out = ledger.folder / "sft"
    launchers = [*processes(str(out), "proxygrm.sft.launch", '"rank": 1')]
    trainers = {child.pid for pid in launchers for child in psutil.Process(pid).children()} - {*launchers}
    assert trainers
    for trainer in trainers:
        os.kill(trainer, signal.SIGKILL)  # as when the node runs out of memory
    ended = until_ended([stage], ledger, 90)
    assert ended["sft"].word == "failed", log_of(stage, ledger)
    reasons = [json.loads(file.read_text()) for file in out.glob("FAILED.*.json")]
    assert reasons
    second = sorted(json.loads(file.read_text())["name"] for file in out.glob("nodes/*/node-1.json"))
    assert any(name in str(reasons) for name in second), reasons
    eventually(lambda: not [*processes(str(out), "swift.cli")], 20, lambda: "the trainers live on")
