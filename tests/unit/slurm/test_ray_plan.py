"""Which node of an RL job does what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.ray.cluster import ClusterOptions
from slurm.ray.node import child_environment
from slurm.ray.plan import NodeRecord, Share, plan_cluster
from slurm.ray.rendezvous import Rendezvous
from support.refusals import refused


def nodes(count: int) -> list[NodeRecord]:
    return [NodeRecord(rank, f"n{rank}", f"10.0.0.{rank}") for rank in range(count)]


@pytest.mark.parametrize("count", [2, 3, 4, 64])
def test_the_last_node_serves_the_proxy_and_the_others_train(count: int) -> None:
    plan = plan_cluster(list(reversed(nodes(count))), gpus_per_node=8, shares=[Share("proxy", nodes=1)])
    assert [role.rank for role in plan.trainers] == list(range(count - 1))
    assert [role.name for role in plan.serving("proxy")] == [f"n{count - 1}"]
    assert sum(role.trainer_gpus for role in plan.nodes) == 8 * (count - 1)
    assert plan.head.rank == 0


def test_a_single_node_is_shared() -> None:
    plan = plan_cluster(nodes(1), gpus_per_node=8, shares=[Share("proxy", nodes=1, gpus=2)])
    assert (plan.head.trainer_gpus, plan.head.services) == (6, {"proxy": (6, 7)})


@pytest.mark.parametrize(
    ("count", "gpus", "shares", "code"),
    [
        (1, 1, [Share("proxy", nodes=1, gpus=1)], "ray.node-too-small"),
        (1, 4, [Share("proxy", nodes=1, gpus=2), Share("search", gpus=2)], "ray.node-too-small"),
        (2, 8, [Share("proxy", nodes=2)], "ray.no-training-node"),
        (2, 8, [Share("proxy", nodes=1), Share("search", nodes=1)], "ray.no-training-node"),
        (1, 8, [Share("search", nodes=2)], "ray.no-training-node"),
    ],
)
def test_a_division_that_cannot_work_is_refused(count: int, gpus: int, shares: list[Share], code: str) -> None:
    with refused(code):
        plan_cluster(nodes(count), gpus, shares)


def test_services_have_nodes_of_their_own_or_gpus_of_every_trainer() -> None:
    shares = [Share("tools"), Share("proxy", nodes=2), Share("judge", gpus=3), Share("search", nodes=1)]
    plan = plan_cluster(nodes(5), 8, shares)
    every = tuple(range(8))
    trainer = {"tools": (), "judge": (5, 6, 7)}
    expected = [trainer, trainer, {"proxy": every}, {"proxy": every}, {"search": every}]
    assert [dict(role.services) for role in plan.nodes] == expected
    assert [role.trainer_gpus for role in plan.nodes] == [5, 5, 0, 0, 0]
    assert [role.name for role in plan.serving("tools")] == ["n0", "n1"]
    assert [role.resources() for role in plan.nodes[1:3]] == [{"judge_gpu": 3}, {"proxy_gpu": 8}]


def test_two_nodes_with_one_address_are_noticed() -> None:
    with refused("ray.duplicate-address", addresses={"a": "10.0.0.1", "b": "10.0.0.1"}):
        plan_cluster([NodeRecord(0, "a", "10.0.0.1"), NodeRecord(1, "b", "10.0.0.1")], 8, [Share("proxy", nodes=1)])


def test_the_earliest_death_is_the_one_reported(tmp_path: Path) -> None:
    first, second = Rendezvous(tmp_path, 0, 2), Rendezvous(tmp_path, 1, 2)
    assert first.failure() is None
    second.report_failure("n1", "Ray ended with exit code 1")
    first.report_failure("n0", "something that followed")
    assert first.failure() == second.failure() == "node n1: Ray ended with exit code 1"


def test_nodes_that_never_come_are_counted_in_the_message(tmp_path: Path) -> None:
    with refused("ray.rendezvous-timeout", state="1 of 3 nodes have started"):
        Rendezvous(tmp_path, 0, 3).nodes("n0", "10.0.0.1", deadline=0.0)


def test_the_secrets_are_readable_by_their_owner_only_and_those_of_a_killed_attempt_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Rendezvous(tmp_path, 0, 1)
    killed.create_secrets()
    assert [path.stat().st_mode & 0o777 for path in (killed.token, killed.secret)] == [0o600, 0o600]
    assert killed.token.read_text() != killed.secret.read_text()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    current = Rendezvous(tmp_path, 0, 1)
    current.create_secrets()
    assert list(tmp_path.rglob("token")) == [current.token]
    assert list(tmp_path.rglob("secret")) == [current.secret]
    current.remove_secrets()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ray_looks_for_a_raylet_as_long_as_a_cluster_may_take_to_be_complete() -> None:
    """By default a driver gives up after a minute, which a raylet on a busy node can take to start."""
    values = child_environment(plan_cluster(nodes(1), 1, ()), 0, Path("token"), "lo", "cpu")
    read = "from ray._private.ray_constants import GCS_SERVER_REQUEST_TIMEOUT_SECONDS as s; print(s)"
    given = subprocess.run([sys.executable, "-c", read], env=os.environ | values, capture_output=True, check=True)
    assert float(given.stdout) == ClusterOptions(gpus_per_node=1, cpus=1, device="cpu").ready_timeout_s
