"""How long `proxygrm status` takes over an ablation of many cells, beside squeue and sacct alone.

    python benchmarks/status_scale.py [--cells 1000]

Starts a private SLURM in a temporary folder, submits the cells' RL runs and evaluations as two held job arrays, and
times: the submission; squeue and sacct as status calls them; `proxygrm status --json` as a person starts it, process
and all, while everything waits and after everything was cancelled (then accounting is asked too). One JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from jobs import recipes
from jobs.engine import request
from jobs.engine.facts import gather
from jobs.engine.plan import Sending, plan
from jobs.engine.request import Request
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.submit import submit
from jobs.engine.sweep import Cell
from slurm import local, scheduler

REPEATS = 3


def seconds(work: Callable[[], Any]) -> float:
    """Median of some repetitions."""
    took = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return round(median(took), 2)


def measure(cells: int, folder: Path) -> dict[str, Any]:
    site = folder / "site.toml"
    site.write_text('preset = "demo"\n[scheduler]\npartition = "gpu"\n')
    names = tuple(
        Cell(f"seed-{seed}", (f"grm_rl.seed={seed}",), (("grm_rl.seed", str(seed)),)) for seed in range(cells)
    )
    resolved = recipes.resolve(Request(profile=str(site), ablation_name="scale", ablation=names))
    ledger = Ledger(folder / "run")
    ledger.create()
    request.save(resolved, ledger)

    started = time.perf_counter()
    planned = plan(resolved.stages, gather(resolved.stages, ledger))
    sent = submit(planned, resolved.profile, ledger, sending=Sending(hold=True))
    found: dict[str, Any] = {"cells": cells, "stages": len(sent), "submit_s": round(time.perf_counter() - started, 2)}
    found["sbatch_calls"] = len({job.split("_")[0] for job in sent.values()})

    ids = list(sent.values())
    command = [sys.executable, "-m", "jobs", "status", "--json", "--run", str(ledger.folder)]
    for when in ("waiting", "cancelled"):
        if when == "cancelled":
            scheduler.cancel(sorted({job.split("_")[0] for job in ids}))
            time.sleep(5)  # accounting hears of it a little later
        found[f"squeue_and_sacct_{when}_s"] = seconds(lambda: (scheduler.query(ids), scheduler.attempts(ids)))
        found[f"status_{when}_s"] = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found["rows"] = len(answer)
    found["detail"] = {row["stage"]: row["detail"][:60] for row in answer if row["total"] == cells}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pgscale-"))
    try:
        local.up(folder / "cluster")
        os.environ.update(local.env(folder / "cluster"))
        print(json.dumps(measure(asked.cells, folder)))
    finally:
        local.down(folder / "cluster")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
