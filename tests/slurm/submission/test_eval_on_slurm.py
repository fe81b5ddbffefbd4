"""A benchmark judged by a job array, on the real local scheduler; the judge is a file of scores."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LocalCluster

pytestmark = pytest.mark.cluster


def test_a_job_array_and_its_merge_leave_every_row_once_in_the_order_of_the_pairs(
    tmp_path: Path, local_cluster: LocalCluster
) -> None:
    count = 41
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    pairs, scores, out = tmp_path / "pa irs.jsonl", tmp_path / "scores.jsonl", tmp_path / "o ut"
    pairs.write_text("".join(json.dumps(pair | {"id": str(n // 2)}) + "\n" for n in range(count)))
    lines = [json.dumps({"id": str(n // 2), "rewards": [n % 3, 1]}) + "\n" for n in range(count)]
    scores.write_text("".join(lines))
    command = [sys.executable, "-m", "jobs", "eval", "run", "--judge", str(scores), "--pairs", str(pairs)]
    command += ["--out", str(out), "--submit", "--shards", "3"]
    environment = {**os.environ, **local_cluster.env, "PROXYGRM_CLUSTER_DIR": str(local_cluster.folder)}
    sent = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert sent.returncode == 0, sent.stderr
    assert "N = 41 of 41 pairs" in sent.stdout
    merge = re.search(r"merge (\d+)", sent.stdout)
    assert merge
    local_cluster.wait(int(merge[1]), "COMPLETED", 90)
    rows = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [str(n // 2) for n in range(count)]
    report = json.loads((out / "run.json").read_text())
    assert (report["pairs"], report["judgements"], report["doubled"], report["ties"]) == (41, 41, 0, 14)
    assert len(list((out / "raw").iterdir())) == 3
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert "nothing to submit" in again.stdout
