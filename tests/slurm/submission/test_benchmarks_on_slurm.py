"""The benchmarks that need the scheduler, each once and tiny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LocalCluster

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.cluster


def run(name: str, *options: str, **variables: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_overhead_of_a_submission_is_measured(local_cluster: LocalCluster) -> None:
    shown = run(
        "submission_overhead.py", "--nodes", "", "--repeat", "1", PROXYGRM_CLUSTER_DIR=str(local_cluster.folder)
    )
    assert [line.split("  ")[0] for line in shown.splitlines()] == ["plain sbatch", "this suite"]


def test_status_over_many_cells_is_measured() -> None:
    shown = json.loads(run("status_scale.py", "--cells", "3"))
    assert shown["stages"] == 4 + 3 + 3  # what comes before RL, then RL and evaluation of each cell
    assert shown["sbatch_calls"] == 4 + 1 + 1
