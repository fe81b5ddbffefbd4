"""A data step as a job array with its merge, on the real local scheduler."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LocalCluster, eventually

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.demo_pairs import write_demo_pairs

pytestmark = pytest.mark.cluster


def test_submitted_ingestion_gives_the_same_pairs_as_here(tmp_path: Path, local_cluster: LocalCluster) -> None:
    release = tmp_path / "re lease"
    write_demo_pairs(release, train=60, held_out=2, seed=0)
    ingest("rlaif-v", release / "train.parquet", tmp_path / "here")
    out = tmp_path / "sent"
    command = [sys.executable, "-m", "jobs", "data", "ingest", "rlaif-v", str(release / "train.parquet")]
    command += ["--out", str(out), "--shards", "3", "--submit"]
    environment = {**os.environ, **local_cluster.env, "PROXYGRM_CLUSTER_DIR": str(local_cluster.folder)}
    sent = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert sent.returncode == 0, sent.stderr
    eventually((out / "ingest.json").is_file, 90, lambda: f"{sent.stdout}\n{local_cluster.run('squeue')}")
    assert read_pairs(out) == read_pairs(tmp_path / "here")
    assert json.loads((out / "ingest.json").read_text())["read"] == 60
    merge = re.search(r"merge (\d+)", sent.stdout)
    assert merge
    local_cluster.wait(int(merge[1]), "COMPLETED")
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert "nothing to submit" in again.stdout
