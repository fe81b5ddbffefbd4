"""A real RL over two nodes of the local cluster: rows and a reward function of the user's own, an algorithm of ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import log_of, send, until_ended

from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Given
from jobs.stages.training import rl
from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.rewards.function import Function
from proxygrm.rl.algorithms.stable_reinforce import StableReinforce
from slurm.profile import Health, Node, Profile, Scheduler
from slurm.sbatch import Resources

pytestmark = [pytest.mark.cluster, pytest.mark.heavy, pytest.mark.usefixtures("on_the_local_cluster")]

PROFILE = Profile(
    "test",
    scheduler=Scheduler(partition="gpu", signal_before_end_s=60),
    node=Node(device="cpu"),
    health=Health(preflight=False),
)
GROUP, PROMPTS, STEPS = 4, 4, 2
REWARD = """
import ray.util

async def score(rollout):
    if rollout.extra_info["level"] == 3:
        raise LookupError("this row has no answer")
    assert rollout.label == {"words": ["red", "blue"]} and rollout.services == {}
    return {"score": rollout.text.count("e"), "letters": len(rollout.text), "level": rollout.extra_info["level"],
            "node": int(ray.util.get_node_ip_address().split(".")[-1])}
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in `start`, rows of text whose label is no 1 or 2 in `rows.parquet`, a reward in `reward.py`."""
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("inputs")
    build_tiny_model(folder / "start", demo_corpus(0, n=50))
    rows = [
        {
            "data_source": "own",
            "prompt": [{"role": "user", "content": f"Say a colour, {level}."}],
            "reward_model": {"style": "rule", "ground_truth": {"words": ["red", "blue"]}},
            "extra_info": {"id": f"r{level}", "level": level},
        }
        for level in range(PROMPTS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    (folder / "reward.py").write_text(REWARD)
    return folder


def test_a_function_of_one_s_own_rewards_rows_of_one_s_own_on_every_node(inputs: Path, tmp_path: Path) -> None:
    settings = replace(
        rl.Settings.demo(max_steps=STEPS),
        n=GROUP,
        train_batch_size=PROMPTS,
        ppo_mini_batch_size=PROMPTS,
        max_response_length=24,
        agent_num_workers=2,
        reward_num_workers=2,
        max_unscored=0.25,
        reward=Function(str(inputs / "reward.py")),
        algorithm=StableReinforce(limit=1.0),
        on=Resources(nodes=2, gpus_per_node=1, cpus_per_task=2, mem_gb=8, timeout_min=15),
    )
    rows = Given(str(inputs / "rows.parquet"))
    stage = rl.stage("rl", policy=str(inputs / "start"), train=rows, validation=rows, settings=settings)
    ledger = Ledger(tmp_path / "run")
    send([stage], ledger, PROFILE)
    ended = until_ended([stage], ledger, 400)
    assert ended["rl"].word == "done", log_of(stage, ledger)

    out = ledger.folder / "rl"
    check_checkpoint(out / "policy")
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [*range(STEPS + 1)]
    for step, row in enumerate(metrics[1:], 1):  # step 0 is the validation before the training
        rollouts = [json.loads(line) for line in (out / "rollouts" / f"step_{step:05d}.jsonl").read_text().splitlines()]
        scored = [one for one in rollouts if not one["unscored"]]
        assert len(rollouts) == PROMPTS * GROUP
        assert {one["id"] for one in rollouts if one["unscored"]} == {"r3"}
        assert row["reward/unscored_by/error_LookupError"] == GROUP
        assert row["reward/unscored"] == 1 / PROMPTS
        assert row["reward/part/level"] == 1.0
        assert row["reward/part/letters"] == pytest.approx(sum(len(one["response"]) for one in scored) / len(scored))
        assert all(one["score"] == one["response"].count("e") for one in scored)
        assert all(one["numbers"]["letters"] == len(one["response"]) for one in scored)
        assert not [name for name in row if "proxy" in name or name == "reward/accuracy"]
        dropped = [row[f"stable_reinforce/filtered_{sign}"] for sign in ("positive", "negative")]
        assert 0 < sum(dropped) < 1, "of any scores that differ some are within one deviation, and some beyond"
        assert row["stable_reinforce/not_finite"] == 0
        assert row["critic/advantages/max"] <= 1
        assert row["critic/advantages/min"] >= -1
        assert ("stable_reinforce/log_prob_distance" in row) == (step == 1)
    assert metrics[1]["stable_reinforce/log_prob_distance"] < 0.01
    log = (out / "trainer.log").read_text()
    assert "LookupError: this row has no answer" in log, "the first of each kind, with its traceback"
    assert 'reward.py", line 6, in score' in log
    rewarded_on = {one["numbers"]["node"] for one in scored}
    assert len(rewarded_on) == len(json.loads((out / "DONE.json").read_text())["nodes"]) == 2
