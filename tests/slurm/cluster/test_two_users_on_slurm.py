"""RL jobs of two users at the same time on one node. Only root can be two users."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
from conftest import log_of, send, until_ended

from jobs.engine import state
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun, closure
from jobs.recipes.drawn_pairs import INPUTS
from jobs.recipes.proxy_grm import Config, chain, quick
from slurm import local
from slurm.profile import Environment, Health, Node, Profile, Scheduler
from slurm.ray.cluster import ClusterOptions, run_in_cluster
from slurm.ray.handle import RayHandle
from slurm.ray.plan import Share
from slurm.sbatch import Resources
from support.second_user import SecondUser, two_users

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.heavy,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users"),
]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ONE_NODE = local.ClusterSpec(name="shared", nodes=(("h100", 1),))
PROFILE = Profile(
    "shared",
    scheduler=Scheduler(partition="gpu"),
    node=Node(device="cpu"),
    environment=Environment(variables={"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}),
    health=Health(preflight=False),  # of GPUs that are names only
)


def meet_on_a_node(run: StageRun) -> None:
    """Ray is up in both jobs at the same time; each has its own node, GPUs and actors, and can do nothing with the
    other's address."""

    def driver(handle: RayHandle) -> None:
        import ray

        mine, other = run.run_dir.parent / "up.json", Path(run.config) / "up.json"
        mine.write_text(json.dumps({"address": handle.address, "node": os.environ["SLURMD_NODENAME"]}))
        deadline = time.time() + 300
        while not other.exists() and time.time() < deadline:
            time.sleep(0.2)
        counter = ray.remote(Counter).options(num_gpus=1, num_cpus=0, name="counter").remote()
        seen = {
            "other": json.loads(other.read_text()),
            "nodes": len(ray.nodes()),
            "GPU": ray.cluster_resources()["GPU"],
            "counted": [ray.get(counter.add.remote()) for _ in range(3)],
            "uid": ray.get(counter.uid.remote()),
        }
        (run.out / "seen.json").write_text(json.dumps(seen))
        mine.with_name("done").write_text("")
        while not other.with_name("done").exists() and time.time() < deadline:
            time.sleep(0.2)  # neither leaves before the other has counted

    options = ClusterOptions(gpus_per_node=2, cpus=2, device="cpu", shares=(Share("proxy", gpus=1),))
    run_in_cluster(run.rank, run.nodes, run.out / "ray", options, driver)


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def uid(self) -> int:
        return os.getuid()


def both_ended(mine: tuple[list[Stage], Ledger], theirs: tuple[list[Stage], Ledger], seconds: float) -> list[str]:
    """How every stage of both ended, in order."""
    words = []
    for stages, ledger in (mine, theirs):
        found = until_ended(stages, ledger, seconds)
        words += [f"{stage.name} {found[stage.name].word} {found[stage.name].detail}".strip() for stage in stages]
        if any(found[stage.name].word != "done" for stage in stages):
            print("\n".join(log_of(stage, ledger) for stage in stages))
    return words


def send_as(second: SecondUser, stages: list[Stage], ledger: Ledger) -> None:
    second.do(lambda: send(stages, ledger, PROFILE) and None)


def test_the_ray_clusters_of_two_users_share_a_node_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    on = Resources(nodes=1, gpus_per_node=2, cpus_per_task=2, mem_gb=4, timeout_min=10)
    with two_users(ONE_NODE) as (first, second):
        for name, value in local.env(first.parent / "cluster").items():
            monkeypatch.setenv(name, value)
        first.chmod(0o755)
        second.folder.chmod(0o755)
        made = (Artifact("seen.json"),)
        mine, theirs = (Stage("meet", meet_on_a_node, made, on, config=str(other)) for other in (second.folder, first))
        ledgers = Ledger(first / "run"), Ledger(second.folder / "run")
        send([mine], ledgers[0], PROFILE)
        send_as(second, [theirs], ledgers[1])
        ended = both_ended(([mine], ledgers[0]), ([theirs], ledgers[1]), 240)
        assert ended == ["meet done", "meet done"]
        seen = [json.loads((ledger.folder / "meet" / "seen.json").read_text()) for ledger in ledgers]
    assert [one["counted"] for one in seen] == [[1, 2, 3], [1, 2, 3]]
    assert [(one["nodes"], one["GPU"]) for one in seen] == [(1, 1.0)] * 2
    assert [one["uid"] for one in seen] == [0, 65534]
    assert seen[0]["other"]["node"] == seen[1]["other"]["node"]
    assert seen[0]["other"]["address"] != seen[1]["other"]["address"]


def for_all(inputs: Path, copy: Path) -> Config:
    """The quick demo on a copy of its inputs that both users may read."""
    shutil.copytree(inputs, copy)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    model = str(copy / "tiny-qwen2.5-vl")
    return replace(quick(), pairs=str(copy / "pairs"), held_out=str(copy / "held_out"), policy=model, proxy=model)


def on_one_node(config: Config) -> Config:
    shared = replace(config.grm_rl.on, nodes=1, gpus_per_node=2)
    return replace(config, grm_rl=replace(config.grm_rl, on=shared))


@pytest.mark.two_users
def test_two_whole_rl_jobs_of_two_users_on_one_node_each_train_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """About as long as two quick demos: run by hand, `pytest -m two_users`."""
    from jobs.cli.run.demo import prepare

    prepare(INPUTS)
    with two_users(ONE_NODE) as (first, second):
        stages = closure(chain(on_one_node(for_all(INPUTS.folder, first.parent / "inputs"))), ["grm_rl"])
        for name, value in local.env(first.parent / "cluster").items():
            monkeypatch.setenv(name, value)
        second.folder.chmod(0o755)
        ledgers = Ledger(first / "run"), Ledger(second.folder / "run")
        send(stages, ledgers[0], PROFILE)
        send_as(second, stages, ledgers[1])
        ended = both_ended((stages, ledgers[0]), (stages, ledgers[1]), 2400)
        print("\n".join(ended))
        assert all(" done" in one for one in ended), ended
        done = [json.loads((ledger.folder / "grm_rl" / "DONE.json").read_text()) for ledger in ledgers]
        assert done[0]["nodes"] == done[1]["nodes"]
        assert max(one["started"] for one in done) < min(one["finished"] for one in done), "at the same time"
        for ledger, uid in zip(ledgers, (0, 65534), strict=True):
            out = ledger.folder / "grm_rl"
            rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            print(json.dumps(rows))
            assert [row["step"] for row in rows] == [1, 2]
            assert [row["reward/rollouts"] for row in rows] == [80, 80]
            assert all(row["reward/proxy_coverage"] > 0.5 for row in rows)
            written = [len(path.read_text().splitlines()) for path in sorted((out / "rollouts").glob("step_*.jsonl"))]
            assert written == [80, 80]
            assert {path.stat().st_uid for path in out.rglob("*") if not path.is_symlink()} == {uid}
        assert state.status(stages, ledgers[1])
