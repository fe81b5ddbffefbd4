"""The parts of the preflight that measure, on this machine, without a scheduler."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxygrm.serving.access.held_port import free_port
from slurm.health.preflight import bad_nodes, measure
from slurm.health.preflight.clock import clock_offset, clock_server
from slurm.health.preflight.judge import Bad, Verdict, judge
from slurm.health.preflight.stale import MARK, OwnProcess, left_over
from slurm.profile import Health, Node, Profile, Scheduler
from support.refusals import refused


def soon() -> float:
    return time.monotonic() + 60


def test_two_readings_of_one_clock_agree_and_a_silent_node_cannot_be_reached() -> None:
    with clock_server("127.0.0.1") as port:
        offset = clock_offset("127.0.0.1", port)
        assert abs(offset.seconds) <= offset.error_s + 1e-3
        assert offset.error_s < 1
    with pytest.raises(OSError, match="refused"):
        clock_offset("127.0.0.1", port)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", None),
        ("true", None),
        ("echo fine; echo 'and well'", None),
        ("echo first; echo ' last \"word\" ü '; exit 4", 'last "word" ü'),
        ("echo to stderr >&2; false", "to stderr"),
        ("exit 7", "exit code 7"),
        ("printf '\\377\\376'; false", "\ufffd\ufffd"),
        ("head -c 100000 /dev/zero | tr '\\0' x; false", "x" * 300),
        ("cat; false", "exit code 1"),
    ],
)
def test_the_site_s_check_says_why_in_its_last_line(command: str, reason: str | None) -> None:
    assert measure.site_check(command, soon()) == reason


def test_a_check_that_hangs_is_ended() -> None:
    started = time.monotonic()
    assert measure.site_check("sleep 60", started) == "it did not end in time"
    assert time.monotonic() - started < 50


def test_what_a_killed_child_had_printed_counts() -> None:
    lines = ['{"gpus": 8, "gpu_free": [1.0], "gemm_s": 0.002}', '{"link": 3, "seconds": 0.5, "why": ""}']
    lines += ['{"link": 2, "seconds": null, "why": "reset"}', '{"link": 1, "sec']
    assert measure.parse_output(lines) == {
        "gpus": 8, "gpu_free": [1.0], "gemm_s": 0.002, "links_s": {"3": 0.5, "2": None}, "links_why": {"2": "reset"}
    }  # fmt: skip
    assert measure.parse_output(["CUDA error"]) == {"links_s": {}, "links_why": {}}


def test_on_a_single_node_without_gpus_nothing_slow_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "speed", lambda *_: pytest.fail("torch is imported"))
    node = Node(device="cpu")
    health = measure.measure(Health(), node, rank=0, size=1, name="n", address="", leader=None, until=soon())
    assert health.problem is None
    assert health.gemm_s is None
    assert health.shm_free_gb


def test_a_node_that_cannot_reach_the_first_one_reports_it_and_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with socket.socket() as silent:  # holds the port, so that nobody else listens on it
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        absent = measure.Leader("127.0.0.1", port, port)
        health = measure.measure(
            Health(), Node(device="cpu"), rank=1, size=2, name="n", address="127.0.0.2", leader=absent, until=soon()
        )
    assert health.unreachable == "127.0.0.2 cannot connect to 127.0.0.1: Connection refused"
    assert (health.gpus, health.links_s) == (2, {})


@pytest.mark.heavy
def test_two_real_children_reduce_over_gloo_and_one_that_never_starts_is_the_bad_one() -> None:
    """Three ranks are expected and two start: a real missing node on the network path."""
    port = free_port("127.0.0.1")

    def child(rank: int) -> dict:
        command = [
            sys.executable,
            "-m",
            "slurm.health.preflight.speed",
            f"--rank={rank}",
            "--size=3",
            "--host=127.0.0.1",
        ]
        command += [f"--port={port}", "--device=cpu", "--wait-s=20"]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
        return measure.parse_output(done.stdout.splitlines())

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(child, range(2)))
    for rank, other in ((0, 1), (1, 0)):
        assert results[rank]["links_s"][str(other)] > 0
        assert results[rank]["links_s"]["2"] is None
        assert results[rank]["links_why"] == {"2": "it has not started"}
    records = {rank: measure.NodeHealth(rank, f"n{rank}", **row) for rank, row in enumerate(results)}
    verdict = judge(["n0", "n1", "n2"], records, 0, Health(slow_factor=100))
    assert verdict.summary == "node n2: did not answer within 180 s"


ME = {"SLURM_JOB_ID": "20", "SLURM_RESTART_COUNT": "1", "SLURMD_NODENAME": "n1", "SLURM_CONF": "/etc/a"}


@pytest.mark.parametrize(
    ("change", "is_stale"),
    [
        ({}, False),
        ({"SLURM_RESTART_COUNT": "0"}, True),
        ({"SLURM_JOB_ID": "19"}, True),
        ({"SLURM_JOB_ID": "21"}, False),
        ({"SLURM_JOB_ID": "19", "SLURMD_NODENAME": "n2"}, False),
        ({"SLURM_JOB_ID": "19", "SLURM_CONF": "/etc/b"}, False),
        ({"SLURM_JOB_ID": ""}, False),
    ],
)
def test_only_processes_of_jobs_that_are_over_on_this_node_of_this_cluster_are_stale(
    change: dict[str, str], is_stale: bool
) -> None:
    process = OwnProcess(7, "python", {**ME, **change})
    assert bool(left_over([process], ME, active={"20", "21"})) is is_stale
    login_shell = OwnProcess(8, "bash", {"SLURM_JOB_ID": "19", "SLURM_CONF": "/etc/a"})
    assert left_over([login_shell], ME, active=set()) == []


def test_only_what_this_suite_started_counts_as_ours() -> None:
    env = {**ME, "SLURM_JOB_ID": "19"}
    left = left_over([OwnProcess(7, "vllm", {**env, MARK: "grm_rl"}), OwnProcess(8, "vim", env)], ME, active=set())
    assert [(stale.pid, stale.ours) for stale in left] == [(7, True), (8, False)]


def test_a_real_process_of_an_ended_job_is_found_and_ended_and_others_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slurm.health.preflight import stale

    squeue = tmp_path / "squeue"  # the controller's answer is the only part that is not real here
    squeue.write_text("#!/bin/sh\necho 4000002\n")
    squeue.chmod(0o755)
    job = {"SLURM_JOB_ID": "4000001", "SLURMD_NODENAME": "test-node", "SLURM_CONF": str(tmp_path)}
    for name, value in {**job, "SLURM_JOB_ID": "4000002", "PATH": f"{tmp_path}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(MARK, raising=False)  # a stage that ran in this process left it
    ours, theirs, running = (
        subprocess.Popen(["sleep", "100"], env={**os.environ, **job, **more})
        for more in ({MARK: "grm_rl"}, {}, {"SLURM_JOB_ID": "4000002", MARK: "grm_rl"})
    )
    try:
        deadline = time.monotonic() + 60
        while len(rows := stale.stale_processes(end=False)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)  # between fork and exec a child still has this process's environment
        assert sorted(s.pid for s in rows) == sorted([ours.pid, theirs.pid])
        assert {s.pid: s.ended for s in stale.stale_processes(end=True)} == {ours.pid: True, theirs.pid: False}
        assert ours.poll() is not None
        assert theirs.poll() is None
        assert running.poll() is None
    finally:
        for process in (ours, theirs, running):
            process.kill()
            process.wait()


def test_bad_nodes_are_added_to_and_requeues_are_counted_by_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    verdict = Verdict((Bad("n1", "clock", "61 s off"), Bad("n1", "GPUs", '7 of 8 "GPUs"')))
    for job, restart, before in (("5", "0", 0), ("5", "1", 1), ("6", "0", 0), ("5", "2", 2)):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
        assert bad_nodes.record(tmp_path, verdict, "grm_rl") == before
    rows = json.loads((tmp_path / "bad_nodes.json").read_text())
    assert len(rows) == 8
    assert {**rows[0], "time": 0} == {
        "node": "n1", "check": "clock", "reason": "61 s off", "time": 0, "stage": "grm_rl", "job": "5", "restart": 0
    }  # fmt: skip


def test_what_went_bad_in_a_run_is_not_asked_for_by_its_next_stages_for_a_day(tmp_path: Path) -> None:
    profile = Profile("site", scheduler=Scheduler(exclude="n1,n9"))
    assert bad_nodes.avoided(profile, tmp_path) is profile
    now = time.time()
    rows = [{"node": node, "time": now - age} for node, age in (("n2", 60), ("n3", 25 * 3600), ("n1", 5), ("n2", 1))]
    (tmp_path / "bad_nodes.json").write_text(json.dumps(rows))
    assert bad_nodes.avoided(profile, tmp_path).scheduler.exclude == "n1,n9,n2"
    assert bad_nodes.avoided(Profile("site"), tmp_path).scheduler.exclude == "n2,n1"
    (tmp_path / "bad_nodes.json").write_text('[{"node": "n')
    with refused("run.bad-nodes-unreadable", path=tmp_path / "bad_nodes.json"):
        bad_nodes.avoided(profile, tmp_path)


def test_an_element_of_an_array_is_requeued_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert bad_nodes.job_name() == "12_3"
