"""`proxygrm demo --recipe policy-rl --quick`: the chain on the real parts, with a served reward model in the RL job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxygrm.core.checkpoints.check import check_checkpoint

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.cluster]
HELD_OUT = 16


def proxygrm(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)


def test_a_policy_is_trained_by_a_served_reward_model_and_measured_before_and_after(tmp_path: Path) -> None:
    environment = {**os.environ, "PROXYGRM_CLUSTER_DIR": str(tmp_path / "cluster")}
    run = tmp_path / "run"
    try:
        done = proxygrm(environment, "demo", "--recipe", "policy-rl", "--quick", "--run", str(run))
    finally:
        proxygrm(environment, "cluster", "down")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    asked = json.loads((run / "ask" / "report.json").read_text())
    assert (asked["held_out"], asked["bad"]) == (HELD_OUT, {})
    for stage, model in (("train_1", "model"), ("start_sft", "model"), ("rl_policy", "policy")):
        check_checkpoint(run / stage / model)

    # The reward: 1 for a match, else what the served model said, and never an invented number.
    (rollouts,) = (run / "rl_policy" / "rollouts").glob("step_*.jsonl")
    rows = [json.loads(line) for line in rollouts.read_text().splitlines()]
    assert len(rows) == 80
    assert all(row["unscored"] or row["matches"] or row["asked"] or row["problem"] == "empty" for row in rows)
    assert any(row["asked"] and 0 < row["score"] < 1 for row in rows)
    assert not any(row["unscored"] for row in rows)
    assert not (run / "rl_policy" / "services" / "reward_model" / "key").exists()

    summary = json.loads((run / "measure" / "summary.json").read_text())
    assert list(summary) == ["start", "rl"]
    for figures in summary.values():
        assert figures["questions"] == figures["with_answer"] == HELD_OUT
        assert figures["accuracy_low"] <= figures["accuracy"] <= figures["accuracy_high"]
        assert figures["reward_unjudged"] <= figures["empty"]
    assert {"accuracy_change", "reward_wins"} <= set(summary["rl"])
    page = (run / "report" / "report.html").read_text()
    assert "Held-out" in page or "held-out" in page
    assert "before RL" in page
    assert "after RL" in page
