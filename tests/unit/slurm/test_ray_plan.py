"""Which node of an RL job does what."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from slurm.ray.cluster import last_words
from slurm.ray.meeting import Meeting
from slurm.ray.plan import NodeRecord, plan_cluster


def nodes(count: int) -> list[NodeRecord]:
    return [NodeRecord(rank, f"n{rank}", f"10.0.0.{rank}") for rank in range(count)]


@pytest.mark.parametrize("count", [2, 3, 4, 64])
def test_the_last_node_serves_the_proxy_and_the_others_train(count: int) -> None:
    plan = plan_cluster(list(reversed(nodes(count))), gpus_per_node=8, proxy_nodes=1, shared_proxy_gpus=0)
    assert [role.rank for role in plan.trainers] == list(range(count - 1))
    assert [role.name for role in plan.proxies] == [f"n{count - 1}"]
    assert sum(role.trainer_gpus for role in plan.nodes) == 8 * (count - 1)
    assert plan.head.rank == 0


def test_a_single_node_is_shared() -> None:
    plan = plan_cluster(nodes(1), gpus_per_node=8, proxy_nodes=1, shared_proxy_gpus=2)
    assert (plan.head.trainer_gpus, plan.head.proxy_gpus) == (6, 2)


@pytest.mark.parametrize(
    ("count", "gpus", "proxy_nodes", "shared", "expected"),
    [
        (1, 1, 1, 1, "ask for more nodes"),
        (2, 8, 2, 0, "leave none to train"),
    ],
)
def test_a_division_that_cannot_work_is_refused(
    count: int, gpus: int, proxy_nodes: int, shared: int, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        plan_cluster(nodes(count), gpus, proxy_nodes, shared)


def test_two_nodes_with_one_address_are_noticed() -> None:
    with pytest.raises(UserError, match="two nodes have one address"):
        plan_cluster([NodeRecord(0, "a", "10.0.0.1"), NodeRecord(1, "b", "10.0.0.1")], 8, 1, 0)


def test_the_earliest_death_is_the_one_reported(tmp_path: Path) -> None:
    first, second = Meeting(tmp_path, 0, 2), Meeting(tmp_path, 1, 2)
    assert first.failure() is None
    second.fail("n1", "Ray ended with exit code 1")
    first.fail("n0", "something that followed")
    assert first.failure() == second.failure() == "node n1: Ray ended with exit code 1"


def test_nodes_that_never_come_are_counted_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 of 3 nodes have started"):
        Meeting(tmp_path, 0, 3).nodes("n0", "10.0.0.1", deadline=0.0)


def test_the_secrets_are_readable_by_their_owner_only_and_those_of_a_killed_attempt_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Meeting(tmp_path, 0, 1)
    killed.create_secrets()
    assert [path.stat().st_mode & 0o777 for path in (killed.token, killed.secret)] == [0o600, 0o600]
    assert killed.token.read_text() != killed.secret.read_text()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    meeting = Meeting(tmp_path, 0, 1)
    meeting.create_secrets()
    assert list(tmp_path.rglob("token")) == [meeting.token]
    assert list(tmp_path.rglob("secret")) == [meeting.secret]
    meeting.forget_secrets()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_last_error_of_a_log_is_what_people_are_told(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("Traceback (most recent call last):\n  File x\nValueError: too few rows\nbye\n")
    assert last_words(log) == "ValueError: too few rows"
