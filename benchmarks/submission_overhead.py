"""What the suite adds to the scheduler: seconds from a stage's end to its successor's start, and until Ray is ready.

    python benchmarks/submission_overhead.py [--nodes 1,2,4] [--imports vllm] [--repeat 3]

On the private SLURM of this machine (`proxygrm cluster up`). The peer of the first figure is the same chain of two
jobs sent with plain `sbatch --dependency=afterok`, measured in the same run: its jobs only write the time.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle

from jobs.engine import state
from jobs.engine.facts import gather
from jobs.engine.plan import plan
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.submit import submit
from slurm import local
from slurm.local.folder import default_folder
from slurm.profile import Health, Profile, Scheduler
from slurm.ray.cluster import ClusterOptions, run_in_cluster
from slurm.ray.handle import RayHandle
from slurm.ray.plan import Share
from slurm.sbatch import Resources

cloudpickle.register_pickle_by_value(sys.modules[__name__])
PROFILE = Profile("bench", scheduler=Scheduler(partition="gpu"), health=Health(preflight=False))
SMALL = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)
TRUE_CHAIN_S = 120


def write_time(run: StageRun) -> None:
    for name in run.config or ():
        importlib.import_module(name)
    (run.out / "time").write_text(str(time.time()))


def ray_ready(run: StageRun) -> None:
    def driver(handle: RayHandle) -> None:
        (run.out / "time").write_text(str(time.time()))

    options = ClusterOptions(
        gpus_per_node=2, cpus=2, device="cpu", shares=(Share("proxy", nodes=1, gpus=1),)
    )  # fmt: skip
    run_in_cluster(run.rank, run.nodes, run.out / "ray", options, driver)


def sent(stages: list[Stage], folder: Path) -> Ledger:
    ledger = Ledger(folder)
    ledger.create()
    submit(plan(stages, gather(stages, ledger)), PROFILE, ledger)
    deadline = time.time() + TRUE_CHAIN_S + 200
    while time.time() < deadline:
        words = {found.word for found in state.status(stages, ledger)}
        if words == {"done"}:
            return ledger
        if any(found.word in state.BAD for found in state.status(stages, ledger)):
            raise SystemExit(f"the benchmark's own jobs failed: {state.status(stages, ledger)}")
        time.sleep(0.5)
    raise SystemExit("the benchmark's jobs did not end")


def our_gap(folder: Path, imports: tuple[str, ...]) -> tuple[float, float]:
    """(end of the first stage's work -> start of the second one's job, -> the second one's work). imports: what the
    first one's process has imported when it ends."""
    first = Stage("first", write_time, (Artifact("time"),), SMALL, config=imports)
    second = Stage("second", write_time, (Artifact("time"),), SMALL, needs={"time": first / "time"})
    ledger = sent([first, second], folder)
    ended = float((ledger.folder / "first" / "time").read_text())
    begun = float((ledger.folder / "second" / "time").read_text())
    job = ledger.submissions()["second"]["job_id"]
    return job_start(job) - ended, begun - ended


def plain_gap(folder: Path) -> tuple[float, float]:
    """The same with sbatch alone: the jobs write the time with `date`."""
    folder.mkdir()
    options = ["--parsable", "--partition=gpu", "--cpus-per-task=1", "--mem=1G", "--time=5", "--output=/dev/null"]
    write = "date +%s.%N > {}"
    first = sbatch([*options, "--wrap", write.format(folder / "first")])
    second = sbatch([*options, f"--dependency=afterok:{first}", "--wrap", write.format(folder / "second")])
    deadline = time.time() + TRUE_CHAIN_S
    while not (folder / "second").exists() or not (folder / "second").read_text():
        if time.time() > deadline:
            raise SystemExit("the plain jobs did not end")
        time.sleep(0.2)
    ended = float((folder / "first").read_text())
    return job_start(second) - ended, float((folder / "second").read_text()) - ended


def sbatch(arguments: list[str]) -> str:
    return subprocess.run(["sbatch", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def job_start(job: str) -> float:
    """Whole seconds, as SLURM keeps them."""
    shown = subprocess.run(["scontrol", "show", "job", "-o", job], check=True, capture_output=True, text=True).stdout
    start = next(word.split("=", 1)[1] for word in shown.split() if word.startswith("StartTime="))
    return time.mktime(time.strptime(start, "%Y-%m-%dT%H:%M:%S"))


def until_ray(folder: Path, nodes: int) -> tuple[float, float]:
    """(job start -> Ray ready, that and the end of the job)."""
    on = Resources(nodes=nodes, gpus_per_node=2, cpus_per_task=2, mem_gb=4, timeout_min=10)
    stage = Stage("ray", ray_ready, (Artifact("time"),), on)
    ledger = sent([stage], folder)
    record = read_json(ledger.folder / "ray" / "DONE.json") or {}
    ready = float((ledger.folder / "ray" / "time").read_text())
    return ready - job_start(ledger.submissions()["ray"]["job_id"]), record["finished"] - record["started"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="1,2,4", help="node counts for Ray; '' for none")
    parser.add_argument("--imports", default="", help="modules that the first stage imports, vllm,torch say")
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    local.up(default_folder())
    os.environ.update(local.env(default_folder()))
    with tempfile.TemporaryDirectory(prefix="proxygrm-overhead-") as scratch:
        rows = []
        for number in range(asked.repeat):
            imports = tuple(filter(None, asked.imports.split(",")))
            rows.append((plain_gap(Path(scratch, f"plain{number}")), our_gap(Path(scratch, f"ours{number}"), imports)))
        for name, at in (("plain sbatch", 0), ("this suite", 1)):
            starts, works = zip(*(row[at] for row in rows), strict=True)
            print(
                f"{name:12s}  end -> successor's job starts {statistics.median(starts):5.1f} s, "
                f"its work starts {statistics.median(works):5.1f} s  (median of {asked.repeat})",
                flush=True,
            )
        for nodes in [int(text) for text in filter(None, asked.nodes.split(","))]:
            ready, whole = until_ray(Path(scratch, f"ray{nodes}"), nodes)
            print(
                f"Ray on {nodes} node{'s' * (nodes > 1)}: ready after {ready:.1f} s; whole job {whole:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
