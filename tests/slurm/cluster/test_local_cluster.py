from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import LocalCluster, eventually

from slurm import local
from slurm.local import folder as folders
from slurm.local import processes
from support.refusals import refused

pytestmark = pytest.mark.cluster
ONE_NODE = local.ClusterSpec(nodes=(("h100", 1),), kill_invalid_depend=False)


def everything_of(folder: Path) -> list[processes.Process]:
    record = folders.read_record(folder)
    assert record is not None
    return [*processes.marked(record.id), *processes.job_processes(record.id, folders.conf_path(folder))]


@pytest.fixture
def spare(tmp_path: Path) -> Iterator[LocalCluster]:
    """A second cluster, of one node, in a folder whose name SLURM and unix sockets could not bear."""
    folder = tmp_path / ("a long name, with ümlauts & 'quotes' " + "x" * 60) / "cluster"
    try:
        local.up(folder, spec=ONE_NODE)
        yield LocalCluster(folder, local.env(folder))
    finally:
        local.down(folder)


def test_four_idle_nodes_of_two_types_come_up(local_cluster: LocalCluster) -> None:
    status = local.status(local_cluster.folder)
    assert status.up
    assert {node.name: node.gpus for node in status.nodes} == {
        "h100-1": "gpu:h100:8",
        "h100-2": "gpu:h100:8",
        "a100-1": "gpu:a100:8",
        "a100-2": "gpu:a100:8",
    }
    assert {node.state for node in status.nodes} <= {"idle", "mixed", "allocated", "completing"}
    assert set(status.nodes[0].partitions) == {"gpu", "scavenge", "high", status.nodes[0].name[:4]}
    shown = local_cluster.run("scontrol", "show", "node", "-o").splitlines()
    assert len({word for line in shown for word in line.split() if word.startswith("NodeAddr=127.0.0.")}) == 4
    assert status.memory_mb < 250


def test_up_again_changes_nothing(local_cluster: LocalCluster) -> None:
    before = local.status(local_cluster.folder).daemons
    assert local.up(local_cluster.folder) is False
    assert [daemon.pid for daemon in local.status(local_cluster.folder).daemons] == [daemon.pid for daemon in before]


def test_a_job_runs_and_accounting_remembers_it(local_cluster: LocalCluster) -> None:
    job = local_cluster.submit("echo done by $SLURMD_NODENAME; exit 3", "--partition=h100")
    local_cluster.wait(job, "FAILED")
    assert local_cluster.output(job).startswith("done by h100-")
    rows = ""

    def recorded() -> bool:
        nonlocal rows
        rows = local_cluster.run("sacct", "-n", "-X", "-P", "-j", str(job), "-o", "jobid,state,exitcode,partition")
        return rows.strip() == f"{job}|FAILED|3:0|h100"

    eventually(recorded, 20, lambda: f"sacct says {rows!r}")


def test_a_request_for_typed_gpus_sets_cuda_visible_devices(local_cluster: LocalCluster) -> None:
    job = local_cluster.submit(
        "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES; sinfo -h -o %P | tr '\\n' ' '", "--gres=gpu:a100:3"
    )
    local_cluster.wait(job, "COMPLETED")
    node, devices, *partitions = local_cluster.output(job).split()
    assert node.startswith("a100-")
    assert len(devices.split(",")) == 3
    assert "gpu*" in partitions, "SLURM's commands work inside a job without further ado"


def test_a_preempted_job_is_warned_and_requeued_under_its_id(local_cluster: LocalCluster) -> None:
    whole = ("--nodes=4", "--gres=gpu:8")
    script = """echo attempt ${SLURM_RESTART_COUNT:-0}
        trap 'echo saved; scontrol requeue $SLURM_JOB_ID' USR1
        sleep 300 & wait; wait"""
    low = local_cluster.submit(script, "--partition=scavenge", "--requeue", "--signal=B:USR1@60", *whole)
    eventually(lambda: "attempt 0" in local_cluster.output(low), 15, lambda: "the job wrote nothing")
    high = local_cluster.submit("true", "--partition=high", *whole)
    local_cluster.wait(high, "COMPLETED")
    assert local_cluster.job(low)["Restarts"] == "1"
    assert "saved" in local_cluster.output(low)
    eventually(lambda: "attempt 1" in local_cluster.output(low), 30, lambda: str(local_cluster.job(low)))
    local_cluster.run("scancel", str(low))


def test_an_unclean_stop_is_recovered_from_and_the_job_runs_again(spare: LocalCluster) -> None:
    job = spare.submit("echo attempt; sleep 300", "--requeue")
    eventually(lambda: spare.output(job).count("attempt") == 1, 20, lambda: str(spare.job(job)))
    killed = everything_of(spare.folder)
    for process in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not any(map(processes.alive, killed)), 10, lambda: f"some of {killed} live on")
    assert not local.status(spare.folder).up
    assert local.up(spare.folder) is True
    eventually(lambda: spare.output(job).count("attempt") == 2, 30, lambda: str(spare.job(job)))


def test_only_the_daemon_that_died_is_started_again(spare: LocalCluster) -> None:
    before = {daemon.name: daemon.pid for daemon in local.status(spare.folder).daemons}
    victim = before["slurmctld"]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: not local.status(spare.folder).up, 5, lambda: "still up")
    assert local.up(spare.folder) is True
    after = {daemon.name: daemon.pid for daemon in local.status(spare.folder).daemons}
    assert {name for name in before if before[name] != after[name]} == {"slurmctld"}


def test_two_clusters_stand_side_by_side_and_one_leaves_no_process(
    local_cluster: LocalCluster, spare: LocalCluster
) -> None:
    script = 'eval "$1"; sinfo -h -N -p gpu -o %N'
    done = subprocess.run(["bash", "-c", script, "_", local.exports(spare.folder)], capture_output=True, check=True)
    assert done.stdout.split() == [b"h100-1"]
    assert len(local_cluster.run("sinfo", "-h", "-N", "-p", "gpu").splitlines()) == 4
    stubborn = "trap '' TERM USR1; setsid env -i sleep 3210 & srun -n1 sleep 3210; sleep 3210"
    job = spare.submit(f"bash -c {shlex.quote(stubborn)}")
    spare.wait(job, "RUNNING")
    left = everything_of(spare.folder)
    started = time.monotonic()
    assert local.down(spare.folder) is True
    assert time.monotonic() - started < 60, "it waits for no job that would run on for 3210 s"
    assert everything_of(spare.folder) == []
    assert [process for process in left if processes.alive(process)] == []
    assert local.down(spare.folder) is False
    assert local.status(local_cluster.folder).up


def test_a_second_up_at_the_same_time_waits_and_finds_it_up(tmp_path: Path) -> None:
    folder, answers = tmp_path / "cluster", list[bool]()
    threads = [threading.Thread(target=lambda: answers.append(local.up(folder, spec=ONE_NODE))) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [False, True]
    finally:
        local.down(folder)


def test_other_settings_for_a_running_cluster_are_refused(local_cluster: LocalCluster) -> None:
    with refused("cluster.other-settings", path=local_cluster.folder):
        local.up(local_cluster.folder, spec=ONE_NODE)


def test_a_cluster_of_another_machine_on_a_shared_disk_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    folders.write_record(folder, dataclasses.replace(folders.new_record(ONE_NODE), host="login-7"))
    with refused("cluster.other-host", path=folder, host="login-7"):
        local.up(folder)
    assert local.down(folder) is False


def test_a_copied_folder_does_not_take_the_originals_processes_for_its_own(
    local_cluster: LocalCluster, tmp_path: Path
) -> None:
    copy = tmp_path / "cluster"
    copy.mkdir()
    (copy / "cluster.json").write_text((local_cluster.folder / "cluster.json").read_text())
    assert not any(daemon.pid for daemon in local.status(copy).daemons)
    assert local.down(copy) is False
    assert local.status(local_cluster.folder).up


def test_a_busy_port_that_was_asked_for_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with refused("cluster.port-busy", port=port):
            local.up(tmp_path / "cluster", spec=local.ClusterSpec(port=port))


def test_a_daemon_that_does_not_start_is_quoted_and_nothing_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    folders.write_record(folder, folders.new_record(ONE_NODE))
    (folder / "db").mkdir()  # a database without its tables
    with refused("cluster.daemon-ended", daemon="mariadbd") as caught:
        local.up(folder)
    assert "mariadbd.log" in caught.value.values["reason"]
    assert "\n" not in str(caught.value)
    assert everything_of(folder) == []
    record = folders.read_record(folder)
    assert record is not None
    assert record.alias is None


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with refused("cluster.folder-unusable", path=tmp_path / "file" / "cluster", reason="Not a directory"):
        local.up(tmp_path / "file" / "cluster")
    with refused("cluster.folder-not-empty", path=tmp_path):
        local.up(tmp_path)
    with refused("cluster.none", path=tmp_path / "never"):
        local.env(tmp_path / "never")
    assert local.down(tmp_path / "never") is False
    assert not local.status(tmp_path / "never").exists


def test_missing_programs_name_the_command_that_fetches_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm.local.binaries.repository", lambda: tmp_path)
    monkeypatch.setenv("PROXYGRM_FORCE_UNPACK", "1")
    with refused("cluster.slurm-incomplete") as caught:
        local.up(tmp_path / "cluster")
    assert "slurmctld" in caught.value.values["missing"]
