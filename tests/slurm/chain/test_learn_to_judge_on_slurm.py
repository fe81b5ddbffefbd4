"""A shortened chain of learn-to-judge on the real local scheduler: a critic that scores, before and after training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import log_of, send, until_ended

from jobs.engine.run_folder.ledger import Ledger
from jobs.recipes import learn_to_judge
from proxygrm.report.page import write_report
from slurm.profile import Health, Node, Profile, Scheduler

pytestmark = [pytest.mark.cluster, pytest.mark.heavy, pytest.mark.usefixtures("on_the_local_cluster")]
PROFILE = Profile("test", scheduler=Scheduler(partition="gpu"), node=Node(device="cpu"), health=Health(preflight=False))
PAIRS, STEPS = 3, 4


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> learn_to_judge.Config:
    """The quick preset on a few drawn tasks and pairs, and what it needs to learn to score."""
    folder = tmp_path_factory.mktemp("inputs")
    learn_to_judge.draw(folder, comparisons=4, scores=40, pairs=PAIRS)
    c = learn_to_judge.quick()
    return replace(
        c,
        release=str(folder / "release"),
        start=str(folder / learn_to_judge.MODEL),
        critic_tasks=replace(c.critic_tasks, kinds="pointwise", validation=0.2),
        critic_sft=replace(c.critic_sft, max_steps=STEPS, save_steps=STEPS),
        benchmarks=replace(c.benchmarks, vl_rewardbench=str(folder / "benchmarks" / "vl_rewardbench"), max_tokens=16),
    )


def test_a_critic_learns_from_scores_and_is_judged_by_them_before_and_after(
    settings: learn_to_judge.Config, tmp_path: Path
) -> None:
    stages, ledger = learn_to_judge.RECIPE.stages(settings), Ledger(tmp_path / "run")
    send(stages, ledger, PROFILE)
    ended = until_ended(stages, ledger, 180)
    assert {name: one.word for name, one in ended.items()} == {stage.name: "done" for stage in stages}, "".join(
        log_of(stage, ledger) for stage in stages
    )
    counts = json.loads((ledger.folder / "critic_tasks" / "critic.json").read_text())
    assert counts["dropped"] == {"other_kind": 4}
    assert sum(rows["pointwise"] for rows in counts["rows"].values()) == 40
    lines = (ledger.folder / "critic_sft" / "metrics.jsonl").read_text().splitlines()
    assert any("eval/loss" in json.loads(line) for line in lines), "judged on the tasks that were set aside"

    summary = json.loads((ledger.folder / "scoring_vl_rewardbench" / "summary.json").read_text())
    assert list(summary) == ["scoring_before", "scoring_after"]
    for name, figures in summary.items():
        assert (figures["rows"], figures["judgements"], figures["orders"]) == (PAIRS, PAIRS, 1)
        rows = [json.loads(line) for line in (ledger.folder / "scoring_vl_rewardbench" / f"{name}.jsonl").open()]
        assert all([len(sample) for sample in row["score_samples"]] == [1, 1] for row in rows)
        assert figures["ties"] + figures["unparsed"] + sum(row["verdict"] in (1, 2) for row in rows) == PAIRS
    page = write_report(ledger.folder, tmp_path / "page.html", learn_to_judge.RECIPE.report).read_text()
    for text in (
        "scoring each response, after",
        "critic by scores",
        "arXiv 2411.17451",
        "VL-RewardBench, before and after",
    ):
        assert text in page
