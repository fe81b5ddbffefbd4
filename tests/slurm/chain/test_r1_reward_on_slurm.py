"""The recipe R1-Reward as a shortened chain of real jobs: tries, both sets, SFT, RL with the consistency judge beside
it, held-out pairs and the page. One run, several looks at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import LocalCluster, log_of, send, until_ended

from data_tools.ingest.run import ingest
from data_tools.sources.demo_pairs import write_demo_pairs
from jobs.engine.request import Request
from jobs.engine.run_folder.ledger import Ledger
from jobs.recipes import resolve
from proxygrm.critique.think_answer import parse
from slurm.profile import Health, Node, Profile, Scheduler

pytestmark = [pytest.mark.cluster, pytest.mark.heavy]

PROFILE = Profile(
    "test",
    scheduler=Scheduler(partition="gpu", signal_before_end_s=60),
    node=Node(device="cpu"),
    health=Health(preflight=False),
)
KINDS, PROMPTS = ("colour",), 16


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, local_cluster: LocalCluster) -> Path:
    """The finished run folder."""
    with pytest.MonkeyPatch.context() as environment:
        for key, value in local_cluster.env.items():
            environment.setenv(key, value)
        return finished(tmp_path_factory.mktemp("r1"))


def finished(folder: Path) -> Path:
    from proxygrm.demo.corpus import judgement_corpus
    from proxygrm.demo.model import build_tiny_model

    write_demo_pairs(folder, train=400, held_out=16, seed=0, kinds=KINDS, fog=0.5)
    for part, target in (("train", "pairs"), ("held_out", "held_out")):
        ingest("rlaif-v", folder / f"{part}.parquet", folder / target)
    build_tiny_model(folder / "model", judgement_corpus(0, n=300, kinds=KINDS))
    settings = {
        "pairs": folder / "pairs", "held_out": folder / "held_out", "policy": folder / "model",
        "distill.shards": 1, "split.r1_sft": 200, "split.r1_sft_val": 8, "split.r1_rl": 64, "split.r1_rl_val": 8,
        "r1_sft.max_steps": 40, "r1_rl.max_steps": 1, "r1_rl.train_batch_size": PROMPTS,
        "r1_rl.ppo_mini_batch_size": PROMPTS // 2, "evaluate.max_pairs": 4,
        **{f"benchmarks.{name}": "" for name in ("vl_rewardbench", "multimodal_rewardbench", "mm_rlhf_rewardbench")},
    }  # fmt: skip
    assignments = tuple(f"{name}={value}" for name, value in settings.items())
    stages = resolve(Request(recipe="r1-reward:quick", assignments=assignments)).stages
    ledger = Ledger(folder / "run")
    send(stages, ledger, PROFILE)
    ended = until_ended(stages, ledger, 600)
    for stage in stages:
        assert ended[stage.name].word == "done", log_of(stage, ledger)
    return ledger.folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_teacher_s_tries_make_both_sets_and_pairs_in_between_are_in_both(run: Path) -> None:
    tries = rows(run / "distill" / "critiques" / "shard-000.jsonl")
    assert {row["contract"] for row in tries} == {"r1"}
    assert {row.get("attempt", 1) for row in tries} == {1, 2, 3}
    report = json.loads((run / "split" / "report.json").read_text())
    assert set(report["tries"]) == {"1", "2", "3", "never"}
    assert sum(report["tries"].values()) == report["right"] + report["wrong"]
    taught = {row["id"]: row for row in rows(run / "split" / "r1_sft.jsonl")}
    assert all(parse(row["messages"][1]["content"]).problem == "" for row in taught.values())
    hard = {row["extra_info"]["id"] for row in pq.read_table(run / "split" / "r1_rl.parquet").to_pylist()}
    both = taught.keys() & hard
    assert both
    assert both <= {row["id"] for row in tries if row.get("attempt", 1) > 1}


def test_rl_asked_the_judge_about_right_answers_alone_and_the_actor_saw_what_the_rollouts_did(run: Path) -> None:
    start, step = rows(run / "r1_rl" / "metrics.jsonl")
    rollouts = rows(run / "r1_rl" / "rollouts" / "step_00001.jsonl")
    assert len(rollouts) == step["reward/rollouts"] == PROMPTS
    assert {(one["judged"], abs(one["consistency"])) for one in rollouts if one["accuracy"]} == {(1.0, 1.0)}
    assert {(one["judged"], one["consistency"]) for one in rollouts if not one["accuracy"]} == {(0.0, 0.0)}
    for one in rollouts:
        expected = one["accuracy"] * (1 + 0.5 * one["consistency"]) + 0.5 * one["format"]
        assert one["score"] == pytest.approx(expected)
    assert step["reward/judged"] == step["reward/accuracy"] > 0
    assert step["reward/unscored"] == 0
    assert step["stable_reinforce/log_prob_distance"] < 0.01
    assert {"stable_reinforce/filtered_positive", "actor/pg_clipfrac", "actor/grad_norm"} <= step.keys()
    assert "validation/accuracy" in start
    assert list((run / "r1_rl" / "services" / "judge").glob("judge-0.log"))


def test_held_out_pairs_are_judged_by_the_contract_and_shown(run: Path) -> None:
    summary = json.loads((run / "evaluate" / "summary.json").read_text())
    assert list(summary) == ["start", "sft", "trained"]
    assert {figures["judgements"] for figures in summary.values()} == {8}
    assert summary["trained"]["format_rate"] > 0.5
    page = (run / "report" / "report.html").read_text()
    assert all(words in page for words in ("r1_sft", "r1_rl", "Gradient norm", "Reasoning agrees with answer"))
