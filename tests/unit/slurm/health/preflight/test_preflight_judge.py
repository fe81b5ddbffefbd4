"""Which nodes are bad, decided from numbers alone."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from slurm.health.preflight.judge import Verdict, judge, ring_rounds
from slurm.health.preflight.record import NodeHealth, Offset, Stale
from slurm.profile import Health

HEALTH = Health(slow_factor=1.5, min_shm_gb=1.0, max_clock_skew_s=5.0)


def group(size: int, gpus: int = 8) -> dict[int, NodeHealth]:
    """A sound group of nodes: 2 ms a product, 10 ms an all-reduce, clocks within a millisecond."""
    links: dict[int, dict[str, float | None]] = {rank: {} for rank in range(size)}
    for a, b in (pair for pairs in ring_rounds(size) for pair in pairs):
        links[a][str(b)] = links[b][str(a)] = 0.010
    return {
        rank: NodeHealth(
            rank,
            f"n{rank}",
            gpus,
            [0.99] * gpus,
            gemm_s=0.002,
            links_s=links[rank],
            shm_free_gb=100.0,
            clock=Offset(rank * 1e-4, 1e-3),
        )
        for rank in range(size)
    }


def verdict(records: dict[int, NodeHealth], size: int | None = None, gpus: int = 8) -> Verdict:
    count = size or len(records)
    return judge([f"n{rank}" for rank in range(count)], records, gpus, HEALTH)


def with_links(records: dict[int, NodeHealth], bad: int, seconds: float | None) -> None:
    """Every link of one node becomes slow (or fails) at both of its ends."""
    for other in records[bad].links_s:
        records[int(other)] = replace(records[int(other)], links_s=records[int(other)].links_s | {str(bad): seconds})
    records[bad] = replace(records[bad], links_s=dict.fromkeys(records[bad].links_s, seconds))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 64])
def test_a_sound_group_is_fit(size: int) -> None:
    assert verdict(group(size)) == Verdict()


@pytest.mark.parametrize("size", range(2, 66))
def test_in_every_round_a_node_has_one_partner_and_over_all_rounds_its_two_neighbours(size: int) -> None:
    rounds = ring_rounds(size)
    for pairs in rounds:
        ranks = [rank for pair in pairs for rank in pair]
        assert len(ranks) == len(set(ranks))
    every = [pair for pairs in rounds for pair in pairs]
    assert len(set(every)) == len(every) == (1 if size == 2 else size)
    assert {rank for pair in every for rank in pair} == set(range(size))
    assert len(rounds) <= 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gemm_s": 0.0032}, "a matrix product takes 1.6 times the group's median"),
        ({"gpus": 7}, "7 of 8 GPUs"),
        ({"gpu_free": [0.99] * 7 + [0.2]}, "GPU memory in use: GPU 7 80%"),
        ({"ecc_errors": 2}, "2 uncorrected errors of GPU memory"),
        ({"shm_free_gb": 0.06}, "0.1 GB free in /dev/shm, 1 required (health.min_shm_gb)"),
        ({"clock": Offset(-61.0, 0.001)}, "its clock is -61.0 s off"),
        ({"command_output": "fan 3 stands still"}, "the site's check failed: fan 3 stands still"),
        ({"command_output": ""}, "the site's check failed: "),
        ({"problem": "CUDA error: no kernel image"}, "CUDA error: no kernel image"),
        (
            {"unreachable": "10.0.0.3 cannot connect to 10.0.0.1: timed out"},
            "10.0.0.3 cannot connect to 10.0.0.1: timed out",
        ),
    ],
)
@pytest.mark.parametrize("size", [3, 4, 64])
def test_one_bad_node_is_named_with_its_reason_and_no_other(size: int, change: dict, reason: str) -> None:
    records = group(size)
    bad = size - 1
    records[bad] = replace(records[bad], **change)
    result = verdict(records)
    assert result.summary == f"node n{bad}: {reason}"
    assert result.group == ""


@pytest.mark.parametrize("size", [3, 4, 5, 8, 9])
@pytest.mark.parametrize("seconds", [0.1, None])
def test_the_node_with_a_bad_cable_is_blamed_and_its_neighbours_are_not(size: int, seconds: float | None) -> None:
    for bad in range(size):
        records = group(size)
        with_links(records, bad, seconds)
        result = verdict(records)
        assert result.nodes == [f"n{bad}"], (size, bad, result)
        assert ("10.0 times" if seconds else "no all-reduce with") in result.summary


def test_a_silent_node_is_bad_and_its_neighbours_are_not() -> None:
    records = group(4)
    del records[2]
    for other in (1, 3):
        records[other] = replace(records[other], links_s=records[other].links_s | {"2": None})
    assert verdict(records, size=4).summary == "node n2: did not answer within 180 s"


def test_of_two_nodes_the_slower_one_is_bad() -> None:
    records = group(2)
    records[0] = replace(records[0], gemm_s=0.1)
    assert verdict(records).nodes == ["n0"]


def test_two_nodes_that_cannot_reach_each_other_are_a_matter_of_the_network() -> None:
    records = group(2)
    with_links(records, 0, None)
    result = verdict(records)
    assert result.bad == ()
    assert "every node" in result.group
    records[0] = replace(records[0], links_why={"1": "Connection reset"})
    assert "no all-reduce with n1 (Connection reset)" in verdict(records).group
    records = group(2)
    records[1] = replace(records[1], unreachable="10.0.0.2 cannot connect to 10.0.0.1: No route to host", clock=None)
    assert "No route to host" in verdict(records).group


def test_when_no_node_reaches_the_first_one_it_is_the_one_that_is_cut_off() -> None:
    records = group(4)
    for rank in (1, 2, 3):
        records[rank] = replace(records[rank], unreachable="no route", clock=None)
    assert verdict(records).summary == "node n0: no other node reaches it: no route"


def test_the_first_node_s_wrong_clock_is_not_blamed_on_the_others() -> None:
    records = {rank: replace(health, clock=Offset(-3600.0, 0.001)) for rank, health in group(4).items()}
    records[0] = replace(records[0], clock=Offset(0.0, 0.001))
    assert verdict(records).summary == "node n0: its clock is +3600.0 s off"


def test_a_slow_answer_about_the_time_is_not_a_wrong_clock() -> None:
    records = group(3)
    records[1] = replace(records[1], clock=Offset(7.0, 6.0))
    assert verdict(records) == Verdict()


def test_a_check_that_fails_everywhere_speaks_against_the_check() -> None:
    records = {rank: replace(health, command_output="nvidia-smi: not found") for rank, health in group(3).items()}
    result = verdict(records)
    assert result.bad == ()
    assert result.group == "every node, for example n0: the site's check failed: nvidia-smi: not found (site check)"


def test_a_job_of_one_node_is_judged_by_absolute_measures() -> None:
    (record,) = group(1).values()
    assert verdict({0: replace(record, shm_free_gb=0.01)}).nodes == ["n0"]
    assert verdict({}, size=1).summary == "node n0: did not answer within 180 s"


def test_noise_below_the_factor_names_no_node() -> None:
    draw = random.Random(3)
    for _ in range(50):
        records = {r: replace(h, gemm_s=0.002 * draw.uniform(1, 1.49)) for r, h in group(16).items()}
        assert verdict(records) == Verdict()


def test_stale_processes_are_named_and_are_no_reason_against_a_node() -> None:
    records = group(2)
    records[1] = replace(records[1], stale=[Stale(77, "12", "raylet", True, True), Stale(78, "12", "vim", False)])
    assert verdict(records) == Verdict(
        notes=(
            "node n1: ended process 77 (raylet) of job 12, which has ended",
            "node n1: found process 78 (vim) of job 12, which has ended",
        )
    )


def test_a_record_survives_json() -> None:
    health = replace(group(3)[1], stale=[Stale(7, "3", 'a "b"\nü', True)], clock=None, links_s={"0": None})
    assert NodeHealth.from_json(json.loads(json.dumps(health.to_json()))) == health
