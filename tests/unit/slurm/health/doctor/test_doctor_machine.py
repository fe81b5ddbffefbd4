"""The doctor's judgement of a folder and of a compute node, from values; and its real look at this machine."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from proxygrm.core.files.whole_file import write_text
from slurm.health.doctor import folder, machine, probe
from slurm.health.doctor import run as doctor
from slurm.health.doctor.machine import Machine
from slurm.health.doctor.probe import Answer
from slurm.profile import Container, Environment, Node, Profile, Scheduler
from support.machines import CUDA, NODE, RUNS, VERSIONS


def judged(node: Machine, profile: Profile = CUDA, **answer: object) -> dict[str, tuple[str, str, str]]:
    values = {"answered": True, "clock": (999.0, 1002.0), **answer}
    lines = probe.judge(Answer(node, **values), NODE, profile, RUNS)  # type: ignore[arg-type]
    assert all(line.remedy for line in lines if line.level != "ok"), "every problem comes with a remedy"
    return {line.check: (line.level, line.detail, line.remedy) for line in lines}


def test_a_sound_node_has_nothing_to_fix() -> None:
    assert {level for level, _, _ in judged(NODE).values()} == {"ok"}


@pytest.mark.parametrize(
    ("change", "check", "level", "words"),
    [
        ({"open_files": 1024}, "open files", "warn", "ulimit -n 65536"),
        ({"open_files": 1024, "open_files_hard": -1}, "open files", "warn", "ulimit -n 65536"),
        ({"open_files": 1024, "open_files_hard": 8192}, "open files", "warn", "ulimit -n 8192 (the hard limit"),
        ({"open_files": 1024, "open_files_hard": 2048}, "open files", "fail", "ulimit -n 2048 (the hard limit"),
        ({"processes": 1000, "processes_hard": 1000}, "processes", "warn", "1000 is also the hard limit"),
        ({"processes": 1000, "processes_hard": 3000}, "processes", "warn", "ulimit -u 3000"),
        ({"open_files": 1024, "open_files_hard": 1024}, "open files", "fail", "hard limit 1024"),
        ({"processes": 1000}, "processes", "warn", "at most 1000"),
        ({"locked_memory": 65536}, "locked memory", "warn", "ulimit -l"),
        ({"shm_free_gb": 0.064}, "shared memory", "fail", "16 GB required"),
        ({"temp_free_gb": 1.0}, "temporary folder", "warn", "TMPDIR"),
        ({"packages": VERSIONS | {"vllm": None}}, "python", "fail", "missing on n1: vllm"),
        ({"packages": VERSIONS | {"torch": "2.0"}}, "python", "warn", "torch 2.0 (here 1.0)"),
        ({"scontrol": False}, "SLURM in jobs", "fail", "container"),
        ({"hub_offline": False}, "no internet", "warn", "HF_HUB_OFFLINE"),
        ({"gpus": [], "gpu_problem": "the driver shows no GPU"}, "GPUs", "fail", "the driver shows no GPU"),
        ({"interface_problem": "node n1 has no ib0"}, "interface", "fail", "node.interface"),
        ({"shared_problem": "No such file"}, "shared folder", "fail", "No such file"),
        ({"time": 1100.0}, "clock", "warn", "+98 s off"),
        ({"time": 900.0}, "clock", "warn", "-99 s off"),
    ],
)
def test_each_fault_of_a_node_is_its_own_line(change: dict, check: str, level: str, words: str) -> None:
    lines = judged(replace(NODE, **change))
    assert lines[check][0] == level
    assert words in " ".join(lines[check])
    assert [name for name, line in lines.items() if line[0] != "ok"] == [check]


def test_a_file_that_does_not_come_back_means_the_folder_is_not_shared() -> None:
    assert judged(NODE, answered=False)["shared folder"][0] == "fail"


def test_a_full_queue_is_no_fault_and_a_refused_job_is_one() -> None:
    (busy,) = probe.judge(Answer(None, "full", not_started=True), NODE, CUDA, RUNS)
    (refused,) = probe.judge(Answer(None, "Invalid account"), NODE, CUDA, RUNS)
    assert (busy.level, refused.level) == ("warn", "fail")


def test_the_probe_asks_as_jobs_do_and_quotes_what_needs_it() -> None:
    profile = Profile(
        "s",
        scheduler=Scheduler("h100", account="lab", qos="high", reservation="course", sbatch={"licenses": "a:1"}),
        node=Node(gpu_type="h100"),
        environment=Environment(modules=["cuda/13.0"], variables={"WORDS": "it's"}),
        container=Container("apptainer", "/images/it's.sif"),
    )
    words = probe.command(profile, Path("/shared/my runs"), 60)
    for option in ("--partition=h100", "--account=lab", "--qos=high", "--reservation=course", "--licenses=a:1"):
        assert option in words
    assert "--gpus-per-node=h100:1" in words
    assert words[-3:-1] == ["bash", "-c"]
    assert "module load cuda/13.0 || exit 1" in words[-1]
    assert "'/images/it'\"'\"'s.sif' python3 -m slurm.health.doctor.machine '/shared/my runs' cuda ''" in words[-1]


def test_the_probe_s_line_is_found_between_whatever_a_site_prints() -> None:
    text = f"Loading cuda/13.0\n{machine.MARK}{json.dumps(asdict(NODE))}\nbye\n"
    assert machine.from_output(text) == NODE
    assert machine.from_output("Loading\n") is None


def test_the_question_is_answered_even_when_it_arrives_late(tmp_path: Path) -> None:
    def ask() -> None:
        time.sleep(0.3)
        write_text(tmp_path / "question", "word")  # whole at once

    asker = threading.Thread(target=ask)
    asker.start()
    assert machine.answer_through(tmp_path) == ""
    asker.join()
    assert (tmp_path / "answer").read_text() == "word"
    assert "No such file" in machine.answer_through(tmp_path / "nowhere", timeout_s=0)


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    measured = machine.measure("cpu", "")
    assert measured.packages["submitit"]
    assert measured.interface_problem == ""
    assert "no network interface 'ib7'" in machine.measure("cpu", "ib7").interface_problem
    space = folder.measure(tmp_path / "new ü" / "runs")
    assert space.free_gb > 0
    assert space.write_mb_s > 0
    assert space.write_problem == space.lock_problem == ""


def space(**values: object) -> dict[str, str]:
    whole = folder.Space(**{"kind": "lustre", "free_gb": 9000.0, "free_inodes": 10**9, **values})  # type: ignore[arg-type]
    return {line.check: line.level for line in folder.judge(whole, RUNS, "cuda")}


def test_a_folder_is_judged_by_space_files_quota_locks_and_a_real_write() -> None:
    assert space() == {"space": "ok", "files": "ok"}
    assert space(free_gb=300.0)["space"] == "warn"
    assert space(free_gb=20.0)["space"] == "fail"
    assert space(free_inodes=20_000)["files"] == "warn"
    assert space(free_inodes=0)["files"] == "fail"
    assert "files" not in space(free_inodes=None)
    assert space(quota=("/home",))["quota"] == "fail"
    assert space(lock_problem="Function not implemented")["locks"] == "warn"
    assert space(write_problem="over your quota") == {"run folder": "fail"}


def test_locks_that_other_hosts_cannot_see_are_told(tmp_path: Path) -> None:
    def mounts(options: str) -> str:
        return f"a / ext4 rw 0 0\nb {tmp_path} lustre {options} 0 0\n"

    assert folder.flock_problem(tmp_path, mounts("rw,flock")) == ""
    assert "only its own host sees a lock" in folder.flock_problem(tmp_path, mounts("rw,localflock"))
    assert "nolock" in folder.flock_problem(tmp_path, mounts("rw,vers=3,nolock"))
    assert folder.flock_problem(tmp_path, mounts("rw,local_lock=none")) == ""


def test_what_is_over_its_quota_bears_a_star() -> None:
    text = (
        "Disk quotas for user me (uid 1000):\n"
        "     Filesystem   space   quota   limit   grace   files   quota   limit   grace\n"
        "nas:/home  10485760* 9000000 11000000   6days   1200       0       0\n"
        "nas:/work  1048576  9000000 11000000           120000*  100000  200000   2days\n"
        "nas:/data  1  2 3     4  5 6\n"
    )
    assert folder.parse_quota(text) == ("nas:/home", "nas:/work")
    assert folder.parse_quota("Disk quotas for user me (uid 1000): none\n") == ()


def test_the_file_system_is_the_innermost_mount_even_with_spaces_in_its_name() -> None:
    mounts = "x / ext4 rw 0 0\nx /shared nfs4 rw 0 0\nx /shared/my\\040lustre lustre rw 0 0\ntorn\n"
    assert folder.file_system(Path("/shared/my lustre/runs"), mounts) == "lustre"
    assert folder.file_system(Path("/shared/my lustre2"), mounts) == "nfs4"
    assert folder.file_system(Path("/sharedish"), mounts) == "ext4"


def test_a_key_file_that_others_can_read_is_named_and_never_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("planted-secret")
    key.chmod(0o644)
    line = doctor.key_file("SWANLAB_API_KEY_FILE", key)
    assert line.level == "warn"
    assert "planted-secret" not in repr(line)
    key.chmod(0o600)
    assert doctor.key_file("SWANLAB_API_KEY_FILE", key).level == "ok"
    assert doctor.key_file("SWANLAB_API_KEY_FILE", tmp_path / "none").level == "fail"


def test_without_a_scheduler_the_doctor_says_so_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("SWANLAB_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(variable, "planted-secret")
    answer = CliRunner().invoke(main, ["doctor", "--profile", "h100", "--run", str(tmp_path / "runs"), "--json"])
    assert answer.exit_code == 1
    lines = json.loads(answer.output)
    remedy = "run this on the cluster's login node"
    assert lines[0] | {"detail": ""} == {"check": "SLURM", "level": "fail", "detail": "", "remedy": remedy}
    assert "sinfo is not on PATH" in lines[0]["detail"]
    assert "planted-secret" not in answer.output


def test_a_private_cluster_that_was_never_made_is_a_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXYGRM_CLUSTER_DIR", str(tmp_path / "none"))
    answer = CliRunner().invoke(main, ["doctor", "--run", str(tmp_path / "runs")])
    assert answer.exit_code == 1
    assert "make cluster-up" in answer.output
